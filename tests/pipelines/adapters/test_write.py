"""Exported files: what stock diffusers and our own reader compute from them equals the trained factors."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save

from pipelines.adapters import layer_names, write
from pipelines.adapters.apply import applied
from pipelines.adapters.read import read
from pipelines.adapters.write import About
from pipelines.errors import ModelError
from pipelines.families import FAMILIES
from tests.pipelines.adapters.conftest import CLASSES
from tests.pipelines.adapters.made import Kinds, by_hand, parts_for, picture, pipe_of, trained_parts, weights

ABOUT = About("ink", trigger_words="inkdrawing", notes="Black lines.", base="tiny", date="2025-01-02",
              training={"num_train_images": 24, "tag_frequency": {"ink": {"cat": 3}}})
EXACT = {"rtol": 1e-5, "atol": 1e-6}


def stock_deltas(pipe):
    """Path -> change of the weight that stock diffusers made of a file."""
    found = {}
    for component in ("unet", "text_encoder", "text_encoder_2"):
        network = getattr(pipe, component, None)
        for path, module in network.named_modules() if network is not None else ():
            if hasattr(module, "get_delta_weight"):
                found[f"{component}.{path}"] = module.get_delta_weight(module.active_adapters[0])
    return found


def assert_same(deltas, parts, pipe):
    known = weights(pipe)
    assert deltas.keys() == parts.keys()
    for path, part in parts.items():
        expected = by_hand(replace(part, dora_scale=None), known[path]).float()
        torch.testing.assert_close(deltas[path], expected, msg=lambda text, path=path: f"{path}: {text}", **EXACT)


@pytest.mark.parametrize("encoders", [True, False], ids=["with encoders", "unet alone"])
@pytest.mark.parametrize("kind", ["kohya", "diffusers"])
def test_stock_diffusers_computes_the_trained_change(pipe, family, folder, tmp_path, encoders, kind):
    parts = parts_for(pipe, Kinds(encoders=encoders))
    path = tmp_path / "ink.safetensors"
    if kind == "kohya":
        write.write_kohya(path, parts, pipe, family, ABOUT, torch.float32)
    else:
        write.write_diffusers(path, parts, pipe, ABOUT, torch.float32)
    stock = pipe_of(folder, CLASSES[family.name])
    stock.load_lora_weights(tmp_path, weight_name=path.name)
    assert_same(stock_deltas(stock), parts, pipe)
    with applied(pipe, [(read(path, pipe, family), 1.0, 1.0)]):
        torch.testing.assert_close(picture(pipe), picture(stock), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kinds", [Kinds(), Kinds(dora=True), Kinds(encoders=False, convolutions=False)],
                         ids=["everything", "dora", "attention"])
@pytest.mark.parametrize("kind", ["kohya", "diffusers"])
def test_our_reader_gets_back_what_was_written(pipe, family, tmp_path, kinds, kind):
    parts = parts_for(pipe, kinds)
    path = tmp_path / "ink.safetensors"
    if kind == "kohya":
        write.write_kohya(path, parts, pipe, family, ABOUT, torch.float32)
    else:
        write.write_diffusers(path, parts, pipe, ABOUT, torch.float32)
    adapter = read(path, pipe, family)
    assert adapter.unmatched == () and adapter.layers == len(parts) and adapter.parts.keys() == parts.keys()
    for layer, part in parts.items():
        back = adapter.parts[layer]
        assert back.alpha == part.alpha and torch.equal(back.down, part.down) and torch.equal(back.up, part.up)
        assert (back.dora_scale is None) == (part.dora_scale is None)
        assert part.dora_scale is None or torch.equal(back.dora_scale, part.dora_scale)


@pytest.mark.parametrize("dora", [False, True])
def test_we_read_what_stock_diffusers_saves_from_training(pipe, family, folder, tmp_path, dora):
    from diffusers.training_utils import _collate_lora_metadata
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    trained = pipe_of(folder, CLASSES[family.name])
    components = {"unet": ["to_q", "to_k", "to_v", "to_out.0", "conv1"], "text_encoder": ["q_proj", "out_proj"]}
    if family.name == "sdxl":
        components["text_encoder_2"] = ["k_proj", "v_proj"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, targets in components.items():
            getattr(trained, name).add_adapter(LoraConfig(
                r=4, lora_alpha=6, use_dora=dora, target_modules=targets, init_lora_weights=False,
                rank_pattern={"to_k": 2}, alpha_pattern={"to_k": 3}))
    layers = {f"{name}_lora_layers": get_peft_model_state_dict(getattr(trained, name)) for name in components}
    type(trained).save_lora_weights(tmp_path, **layers, **_collate_lora_metadata(
        {name: getattr(trained, name) for name in components}))
    adapter = read(tmp_path / "pytorch_lora_weights.safetensors", pipe, family)
    assert adapter.unmatched == () and adapter.ranks == (2, 4)
    expected = picture(trained)
    assert (picture(pipe) - expected).abs().max() > 0.05
    with applied(pipe, [(adapter, 1.0, 1.0)]):
        torch.testing.assert_close(picture(pipe), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("rslora", [False, True])
def test_factors_trained_by_peft_keep_their_strength_in_both_kinds_of_files(sd_pipe, sd_folder, tmp_path, rslora, dora):
    from peft import LoraConfig

    trained = pipe_of(sd_folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for network, targets in ((trained.unet, ["to_q", "to_v", "conv2"]),
                                 (trained.text_encoder, ["q_proj", "k_proj", "v_proj", "out_proj"])):
            network.add_adapter(LoraConfig(r=4, lora_alpha=6, use_rslora=rslora, use_dora=dora, target_modules=targets,
                                           init_lora_weights=False))
    parts = trained_parts(trained)
    assert parts.keys() <= layer_names.layers(sd_pipe).keys()
    assert {part.alpha for part in parts.values()} == {6 * (math.sqrt(4) if rslora else 1)}
    expected = picture(trained)
    family = FAMILIES["sd15"]
    for path in (write.write_kohya(tmp_path / "a.safetensors", parts, trained, family, ABOUT, torch.float32),
                 write.write_diffusers(tmp_path / "b.safetensors", parts, trained, ABOUT, torch.float32)):
        adapter = read(path, sd_pipe, family)
        assert adapter.unmatched == () and len(adapter.parts) == len(parts)
        with applied(sd_pipe, [(adapter, 1.0, 1.0)]):
            torch.testing.assert_close(picture(sd_pipe), expected, rtol=1e-4, atol=1e-3)
    stock = pipe_of(sd_folder)
    stock.load_lora_weights(tmp_path, weight_name="b.safetensors")
    torch.testing.assert_close(picture(stock), expected, rtol=1e-4, atol=1e-3)


def test_the_header_says_what_other_programs_show(pipe, family, tmp_path):
    parts = parts_for(pipe)
    path = write.write_kohya(tmp_path / "ink.safetensors", parts, pipe, family, ABOUT)
    with safe_open(path, "pt") as file:
        said = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert {said[key] for key in ("ss_output_name", "modelspec.title")} == {"ink"}
    assert said["ss_network_dim"] == "4" and float(said["ss_network_alpha"]) == 2.0
    assert said["ss_base_model_version"] == {"sd15": "sd_v1", "sdxl": "sdxl_base_v1-0"}[family.name]
    assert said["modelspec.architecture"] == {"sd15": "stable-diffusion-v1/lora",
                                              "sdxl": "stable-diffusion-xl-v1-base/lora"}[family.name]
    assert said["ss_v2"] == "False" and said["modelspec.trigger_phrase"] == "inkdrawing"
    assert json.loads(said["ss_tag_frequency"]) == {"ink": {"cat": 3}} and said["ss_num_train_images"] == "24"
    assert "lora_adapter_metadata" not in said
    data = path.read_bytes()
    assert said["sshs_model_hash"] == hashlib.sha256(data[8 + int.from_bytes(data[:8], "little"):]).hexdigest()
    # As kohya-ss/sd-scripts computes the old hash: over a file with the ss_ words alone.
    plain = save(tensors, {key: value for key, value in said.items() if key.startswith("ss_")})
    assert said["sshs_legacy_hash"] == hashlib.sha256(plain[0x100000:0x110000]).hexdigest()[:8]
    assert all(tensor.dtype == (torch.float32 if key.endswith(".alpha") else torch.float16)
               for key, tensor in tensors.items())


def test_other_words_do_not_change_the_hash(sd_pipe, tmp_path):
    parts, hashes = parts_for(sd_pipe), set()
    for about in (ABOUT, replace(ABOUT, name="other", notes="x" * 1000)):
        path = write.write_kohya(tmp_path / f"{about.name}.safetensors", parts, sd_pipe, FAMILIES["sd15"], about)
        with safe_open(path, "pt") as file:
            hashes.add(file.metadata()["sshs_model_hash"])
    assert len(hashes) == 1


def test_text_encoder_names_have_the_level_that_other_programs_expect(pipe, family, tmp_path):
    path = write.write_kohya(tmp_path / "ink.safetensors", parts_for(pipe), pipe, family, ABOUT)
    with safe_open(path, "pt") as file:
        stems = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118
    prefixes = {stem.split("_encoder_layers")[0] for stem in stems if stem.startswith("lora_te")}
    assert prefixes == {"sd15": {"lora_te_text_model"},
                        "sdxl": {"lora_te1_text_model", "lora_te2_text_model"}}[family.name]
    assert any("input_blocks" in stem for stem in stems) == (family.name == "sdxl")


def test_a_v_predicting_base_is_named(sd_pipe):
    about = replace(ABOUT, prediction_type="v_prediction")
    said = write._kohya_metadata(parts_for(sd_pipe), FAMILIES["sd2"], about)
    assert said["modelspec.architecture"] == "stable-diffusion-v2-768-v/lora"
    assert (said["ss_base_model_version"], said["ss_v2"], said["modelspec.prediction_type"]) == ("sd_v2_v", "True", "v")


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_never_written(sd_pipe, tmp_path, number):
    parts = parts_for(sd_pipe)
    path = write.write_kohya(tmp_path / "ink.safetensors", parts, sd_pipe, FAMILIES["sd15"], ABOUT)
    before = path.read_bytes()
    layer = list(parts)[7]
    down = parts[layer].down.clone()
    down.view(-1)[3] = number
    parts[layer] = replace(parts[layer], down=down)
    with pytest.raises(ModelError, match="ink was not saved: its weights hold numbers that are not finite"):
        write.write_kohya(path, parts, sd_pipe, FAMILIES["sd15"], ABOUT)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["ink.safetensors"]


def test_numbers_too_large_for_half_precision_are_kept(sd_pipe, tmp_path):
    parts = parts_for(sd_pipe)
    layer = list(parts)[0]
    parts[layer] = replace(parts[layer], up=parts[layer].up * 1e6)
    path = write.write_kohya(tmp_path / "ink.safetensors", parts, sd_pipe, FAMILIES["sd15"], ABOUT)
    assert torch.equal(read(path, sd_pipe, FAMILIES["sd15"]).parts[layer].up, parts[layer].up)


def test_a_disk_that_fills_up_leaves_the_old_file(sd_pipe, tmp_path, monkeypatch):
    import errno
    import os

    parts = parts_for(sd_pipe)
    path = write.write_kohya(tmp_path / "ink.safetensors", parts, sd_pipe, FAMILIES["sd15"], ABOUT)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write.write_kohya(path, parts_for(sd_pipe, seed=1), sd_pipe, FAMILIES["sd15"], ABOUT)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["ink.safetensors"]


def test_the_files_beside_it_are_those_that_automatic1111_reads(tmp_path):
    path = tmp_path / "ink.safetensors"
    picture = Image.new("RGBA", (64, 64), "red")
    write.write_sidecars(path, FAMILIES["sdxl"], replace(ABOUT, preferred_weight=0.7), picture)
    said = json.loads((tmp_path / "ink.json").read_text())
    assert said["activation text"] == "inkdrawing" and said["preferred weight"] == 0.7
    assert said["sd version"] == "SDXL" and said["notes"] == "Black lines."
    assert Image.open(tmp_path / "ink.png").size == (64, 64)
