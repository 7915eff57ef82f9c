"""An autoencoder that stands alone takes the place of a checkpoint's, in each layout that people have."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.errors import ModelError
from pipelines.families import FAMILIES
from pipelines.library import Library
from pipelines.library.folders import Place
from pipelines.library.read.card import read_folder
from pipelines.machine.device import Placement
from pipelines.models.cache import Lease
from pipelines.models.loading import load, load_vae
from pipelines.models.vae_cache import Vaes
from tests import original_layout

FLOAT32 = Placement("cpu", "float32", "float32")
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(scope="module")
def own(sd_folder):
    """The autoencoder of a tiny model."""
    return load(read_folder(sd_folder, "tiny"), FLOAT32)["vae"]


@pytest.fixture
def entry_of(tmp_path):
    """Let the library say what a file is."""
    made = Library(tmp_path / "data", lambda: (Place(tmp_path / "models", tmp_path / "models"),))

    def entry_of(name: str = ""):
        made.refresh()
        assert made.wait(60)
        return made.get("vae", name) if name else made.entries()[0]
    (tmp_path / "models").mkdir()
    yield entry_of
    made.close()


def write(path: Path, tensors) -> Path:
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path)
    return path


def with_old_names(state):
    for new, old in OLD_NAMES.items():
        state = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in state.items()}
    return state


@pytest.mark.parametrize("layout", ["original", "inside a checkpoint", "diffusers", "diffusers of old"])
def test_each_layout_gives_the_same_weights(own, entry_of, tmp_path, layout):
    import torch

    state = {name: tensor + 1 for name, tensor in own.state_dict().items()}
    changed = type(own).from_config(own.config)
    changed.load_state_dict(state)
    tensors = {"original": original_layout.vae(changed), "diffusers": state, "diffusers of old": with_old_names(state),
               "inside a checkpoint": {f"first_stage_model.{name}": tensor
                                       for name, tensor in original_layout.vae(changed).items()}}[layout]
    write(tmp_path / "models" / "clear.safetensors", tensors)
    loaded = load_vae(entry_of("clear"), FLOAT32, own.config)
    found = loaded.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert loaded.config.scaling_factor == own.config.scaling_factor
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_a_folder_with_a_config_is_built_by_it_and_its_dtype_is_as_asked(own, entry_of, tmp_path):
    import torch
    from diffusers import AutoencoderKL

    small = AutoencoderKL.from_config({**own.config, "layers_per_block": 2})
    small.save_pretrained(tmp_path / "models" / "sharp")
    loaded = load_vae(entry_of("sharp"), Placement("cpu", "float32", "bfloat16"), own.config)
    assert loaded.config.layers_per_block == 2
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}


def test_a_tiny_autoencoder_decodes_a_picture(own, entry_of, tmp_path):
    import torch
    from diffusers import AutoencoderTiny

    AutoencoderTiny().save_pretrained(tmp_path / "models" / "taesd")
    shutil.copy(tmp_path / "models" / "taesd" / "diffusion_pytorch_model.safetensors",
                tmp_path / "models" / "renamed.safetensors")
    for name in ("taesd", "renamed"):
        loaded = load_vae(entry_of(name), FLOAT32, own.config)
        with torch.inference_mode():
            assert loaded.decode(torch.zeros(1, 4, 8, 8)).sample.shape == (1, 3, 64, 64)


def test_a_wrong_autoencoder_is_refused_by_name_and_reason(own, entry_of, tmp_path):
    models = tmp_path / "models"
    state = own.state_dict()
    wide = {**state, "decoder.conv_in.bias": state["decoder.conv_in.bias"].repeat(2)}
    write(models / "wide.safetensors", wide)
    write(models / "part.safetensors", {name: state[name] for name in state if name != "encoder.conv_in.bias"})
    own.save_pretrained(models / "other")
    config = models / "other" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "scaling_factor": 0.13025}))
    for name, words in (("wide", "wide.safetensors cannot be used: decoder.conv_in.bias is 32 and should be 16"),
                        ("part", "part.safetensors cannot be used: encoder.conv_in.bias is missing"),
                        ("other", "cannot be used: it scales latents by 0.13025, this model by 0.18215")):
        with pytest.raises(ModelError, match=words):
            load_vae(entry_of(name), FLOAT32, own.config)
    write(models / "gone.safetensors", state)
    gone = entry_of("gone")
    (models / "gone.safetensors").unlink()
    with pytest.raises(ModelError, match=r"gone.safetensors cannot be used: No such file"):
        load_vae(gone, FLOAT32, own.config)


@pytest.mark.parametrize("offload", ["model", "group"])
def test_where_parts_are_offloaded_it_is_brought_to_where_it_computes_for_each_job(own, entry_of, tmp_path, offload):
    write(tmp_path / "models" / "x.safetensors", own.state_dict())
    placement = Placement("meta", "float32", "float32", offload)  # a device that every machine has
    lease = Lease(SimpleNamespace(vae=own), FAMILIES["sd15"], placement)
    vaes, entry = Vaes(), entry_of()
    for _ in range(2):
        network = vaes.load(entry, lease, lambda size: None)
        assert network.device.type == "meta"
        network.to_empty(device="cpu")  # as offloading does at a job's end
