"""Merged checkpoints: our loader and the stock one draw from them what the attached adapter draws."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

from pipelines.adapters.apply import applied
from pipelines.adapters.merge import merge
from pipelines.adapters.read import Adapter
from pipelines.errors import ModelError
from pipelines.library.read.card import read_folder
from pipelines.machine.device import Placement
from pipelines.models import loading
from tests.pipelines.adapters.conftest import CLASSES
from tests.pipelines.adapters.made import Kinds, parts_for, picture, pipe_of, state


@pytest.fixture
def ink(pipe):
    parts = parts_for(pipe, Kinds(dora=True))
    return Adapter("ink", parts, len(parts))


def test_the_merged_model_draws_what_the_attached_adapter_draws(pipe, family, folder, ink, tmp_path):
    plain = picture(pipe)
    before = state(pipe)
    made = merge(tmp_path / "merged", pipe, family, [(ink, 0.4, 0.6)])
    assert state(pipe) == before
    with applied(pipe, [(ink, 0.4, 0.6)]):
        expected = picture(pipe)
    stock = picture(pipe_of(made, CLASSES[family.name]))
    # The stored weights are rounded to float16.
    assert (stock - expected).abs().max() < 0.05 * (expected - plain).abs().max()

    card = read_folder(made, "merged")
    assert card.family == family.name
    ours = loading.load(card, Placement("cpu", "float32", "float32"))
    for part in ("unet", "text_encoder"):
        for one, other in zip(ours[part].parameters(), getattr(pipe_of(made, CLASSES[family.name]), part).parameters(),
                              strict=True):
            assert torch.equal(one, other)


def test_names_and_format_are_those_that_old_and_new_programs_read(pipe, family, ink, tmp_path):
    made = merge(tmp_path / "merged", pipe, family, [(ink, 1.0, 1.0)])
    for encoder in {"sd15": ["text_encoder"], "sdxl": ["text_encoder", "text_encoder_2"]}[family.name]:
        with safe_open(made / encoder / "model.safetensors", "pt") as file:
            keys = list(file.keys())
            assert all(key.startswith(("text_model.", "text_projection")) for key in keys)
            assert all(file.get_tensor(key).dtype == torch.float16 for key in keys)
        assert json.loads((made / encoder / "config.json").read_text())["dtype"] == "float32"
    index = json.loads((made / "model_index.json").read_text())
    assert index["_class_name"] == CLASSES[family.name] and index["unet"] == ["diffusers", "UNet2DConditionModel"]
    assert index.get("safety_checker", [None, None]) == [None, None]


def test_a_model_that_is_there_is_not_overwritten(sd_pipe, tmp_path):
    from pipelines.families import FAMILIES

    (tmp_path / "mine").mkdir()
    with pytest.raises(ModelError, match="mine: there is a model of this name already"):
        merge(tmp_path / "mine", sd_pipe, FAMILIES["sd15"], [])
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_weights_that_do_not_fit_into_the_format_leave_nothing_behind(sd_pipe, tmp_path):
    from pipelines.families import FAMILIES

    parts = parts_for(sd_pipe)
    ink = Adapter("ink", parts, len(parts))
    before = state(sd_pipe)
    with pytest.raises(ModelError, match="not finite in float16"):
        merge(tmp_path / "merged", sd_pipe, FAMILIES["sd15"], [(ink, 1e6, 1.0)])
    assert list(tmp_path.iterdir()) == [] and state(sd_pipe) == before
