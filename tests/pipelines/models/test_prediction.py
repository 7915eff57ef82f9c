"""What a checkpoint predicts is told by its file, by trying it, or by a person; pictures follow."""

from __future__ import annotations

import json

import pytest

from pipelines.errors import RequestError, StudioError
from pipelines.library.read import card as card_reader
from pipelines.library.read.card import read_file, read_folder
from pipelines.library.read.prediction import FILE_NAME, Predictions, is_open, sentence
from pipelines.machine.device import Placement
from pipelines.models import single_file
from pipelines.models.loading import load
from pipelines.models.prediction_probe import predicts
from pipelines.requests import Txt2Img, make
from tests.original_layout import original
from tests.pipelines.studio.test_assets import QUICK, draw, make_studio  # noqa: F401  (a fixture)
from tests.tiny import _clip_config, _vae, tiny_sd

PLACE = Placement("cpu", "float32", "float32")
ABAR = 0.0047  # of the last timestep of Stable Diffusion's noise


def taught(kind):
    """A tiny U-Net that predicts noise, or v, of one flat picture at the last timestep: a second's teaching does."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        unet = UNet2DConditionModel(
            sample_size=8, block_out_channels=(16, 16), layers_per_block=1, attention_head_dim=4, norm_num_groups=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=1024,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), use_linear_projection=True)
        x0 = torch.randn(1, 4, 1, 1).expand(1, 4, 8, 8)
        words = torch.zeros(4, 1, 1024)
        optimizer = torch.optim.Adam(unet.parameters(), 1e-2)
        for _ in range(25):
            noise = torch.randn(4, 4, 8, 8)
            x = ABAR**0.5 * x0 + (1 - ABAR) ** 0.5 * noise
            target = noise if kind == "epsilon" else ABAR**0.5 * noise - (1 - ABAR) ** 0.5 * x0
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(unet(x, 999, encoder_hidden_states=words).sample, target).backward()
            optimizer.step()
    return unet.requires_grad_(False)


def write_sd2(path, configs, kind):
    """Write an original file that is taken for a 2.x one, and its configs: text of width 1024, the rest tiny."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPTextModel

    text = _clip_config(49408, hidden_size=1024, intermediate_size=16, num_hidden_layers=1, num_attention_heads=16,
                        hidden_act="gelu", projection_dim=1024)
    with torch.device("meta"):
        encoder = CLIPTextModel(text)
    encoder = encoder.half().to_empty(device="cpu").requires_grad_(False)
    for parameter in encoder.parameters():
        parameter.zero_()
    parts = {"unet": taught(kind), "vae": _vae(), "text_encoder": encoder}
    for name, part in parts.items():
        part.save_config(configs / name) if name != "text_encoder" else part.config.save_pretrained(configs / name)
    save_file({name: tensor.half().contiguous().clone() for name, tensor in original(parts).items()}, path)


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def sd2(request, tmp_path_factory):
    """(what it predicts, an unmarked file, the folder of its family's configs)."""
    import shutil

    place = tmp_path_factory.mktemp("sd2")
    configs = shutil.copytree(single_file.CONFIGS, place / "configs")
    write_sd2(place / "m.safetensors", configs / "sd2", request.param)
    return request.param, place / "m.safetensors", configs


def test_an_unmarked_file_of_2x_is_tried_once_and_what_was_found_is_kept(sd2, tmp_path, monkeypatch):
    kind, file, configs = sd2
    for reader in (card_reader, single_file):
        monkeypatch.setattr(reader, "CONFIGS", configs)
    card, known = read_file(file, "m"), Predictions(tmp_path)
    assert is_open(card) and sentence(card) == "found out when it is loaded"
    components = load(card, PLACE, tried=lambda found: known.found(card, found))
    assert components["scheduler"].config.prediction_type == kind
    again = Predictions(tmp_path).told(read_file(file, "m"))
    assert again.scheduler["prediction_type"] == kind and not is_open(again)
    assert sentence(again).endswith("found by trying it")


def test_what_a_person_says_goes_before_the_file_and_is_forgotten_on_demand(tmp_path):
    card = read_folder(tiny_sd(tmp_path / "model"), "m")
    assert sentence(card) == "noise, as the file says"
    Predictions(tmp_path).choose(card, "v_prediction")
    told = Predictions(tmp_path).told(card)
    assert sentence(told) == "v, as chosen here"
    assert load(told, PLACE)["scheduler"].config.prediction_type == "v_prediction"
    Predictions(tmp_path).choose(card, "")
    assert Predictions(tmp_path).told(card) == card
    assert json.loads((tmp_path / FILE_NAME).read_text()) == {}
    with pytest.raises(RequestError, match="'x' is not possible"):
        Predictions(tmp_path).choose(card, "x")


@pytest.mark.parametrize("damage", ["", "[1]", '{"a": {"chosen": "import os"}}'])
def test_a_damaged_memory_of_it_costs_another_try_alone(tmp_path, damage):
    (tmp_path / FILE_NAME).write_text(damage)
    card = read_folder(tiny_sd(tmp_path / "model"), "m")
    assert Predictions(tmp_path).told(card) == card


def test_a_model_that_answers_with_a_constant_is_not_judged(tmp_path):
    components = load(read_folder(tiny_sd(tmp_path / "model"), "m"), PLACE)
    for parameter in components["unet"].conv_out.parameters():
        parameter.zero_()
    assert predicts(components, PLACE) == ""


def test_the_pictures_of_a_model_in_memory_follow_at_once_and_say_so(make_studio, sd_folder):  # noqa: F811
    studio = make_studio()  # of --model, which lies in no known folder and is listed nevertheless
    studio.collection.library.refresh()
    studio.collection.library.wait_for_scan(60)
    entry = next(entry for entry in studio.collection.library.entries() if entry.path == sd_folder.resolve())
    assert studio.collection.card(entry.name).path == entry.path

    def infotext():
        return studio.submit(make(Txt2Img, **QUICK)).wait(120).records[0].infotext

    plain, said = draw(studio), infotext()
    studio.collection.choose_prediction(entry.id, "v_prediction")
    assert draw(studio) != plain
    assert "Prediction type: v_prediction" in infotext() and "Prediction type" not in said
    studio.collection.choose_prediction(entry.id, "")
    assert draw(studio) == plain and infotext() == said


def test_only_the_owner_chooses(make_studio):  # noqa: F811
    with pytest.raises(StudioError, match="Only the owner"):
        make_studio("--share").collection.choose_prediction("x", "epsilon")
