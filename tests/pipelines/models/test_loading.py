"""Components come from folders and single files as they were written, in the format and place asked for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import ModelError
from pipelines.families import FAMILIES
from pipelines.families.clip import CONFIGS, write_vocabulary
from pipelines.library.read.card import read_file, read_folder
from pipelines.machine.device import Placement
from pipelines.models.loading import bytes_of, components_of_file, load
from tests.original_layout import original, write_hollow
from tests.tiny import tiny_sd

FLOAT32 = Placement("cpu", "float32", "float32")
NETWORKS = ("unet", "vae", "text_encoder", "text_encoder_2")
FULL_SIZE = {  # parameters as published
    "sd15": {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480},
    "sd2": {"unet": 865_910_724, "vae": 83_653_863, "text_encoder": 340_387_840},
    "sdxl": {"unet": 2_567_463_684, "vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840},
    "sdxl_refiner": {"unet": 2_259_526_660, "vae": 83_653_863, "text_encoder_2": 694_659_840},
}


@pytest.fixture(params=["sd_folder", "sd9_folder", "sdxl_folder"])
def folder(request) -> Path:
    return request.getfixturevalue(request.param)


def states(components):
    return {f"{part}.{key}": tensor for part in NETWORKS if part in components
            for key, tensor in components[part].state_dict().items()}


def same(left, right) -> bool:
    import torch

    left, right = states(left), states(right)
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def hollow_models(family: str):
    """The family's networks at full size, without memory, from the configs that come along."""
    import diffusers
    import torch
    import transformers

    folder, models = CONFIGS / family, {}
    with torch.device("meta"):
        for part in FULL_SIZE[family]:
            if part.startswith("text"):
                cls = transformers.CLIPTextModelWithProjection if part.endswith("2") else transformers.CLIPTextModel
                models[part] = cls(transformers.CLIPTextConfig.from_pretrained(folder / part))
            else:
                cls = diffusers.UNet2DConditionModel if part == "unet" else diffusers.AutoencoderKL
                models[part] = cls.from_config(cls.load_config(folder / part))
    return models


def test_a_folder_gives_what_stock_diffusers_gives(sd_folder):
    import diffusers

    stock = diffusers.StableDiffusionPipeline.from_pretrained(sd_folder, local_files_only=True).components
    ours = load(read_folder(sd_folder, "tiny"), FLOAT32)
    assert same(ours, stock)
    assert ours["scheduler"].config == stock["scheduler"].config
    assert ours["tokenizer"]("a red cat").input_ids == stock["tokenizer"]("a red cat").input_ids
    assert "safety_checker" not in ours


def test_the_components_draw_a_picture_in_the_stock_pipeline(folder):
    import diffusers
    import torch
    from PIL import Image

    card = read_folder(folder, "tiny")
    components = load(card, FLOAT32)
    family, task = FAMILIES[card.family], card.tasks[-1]
    extra = {} if family.pooled else {"safety_checker": None, "feature_extractor": None,
                                      "requires_safety_checker": False}
    pipe = getattr(diffusers, family.pipelines[task])(**components, **extra)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a cat", image=Image.new("RGB", (64, 64), "red"), mask_image=Image.new("L", (64, 64), 255),
                 width=64, height=64, num_inference_steps=2, strength=1.0,
                 generator=torch.Generator().manual_seed(0)).images[0]
    assert np.asarray(image).std() > 0


def test_dtypes_place_and_freezing_are_as_asked(folder):
    import torch

    components = load(read_folder(folder, "tiny"), Placement("cpu", "bfloat16", "float32"))
    dtypes = {part: {p.dtype for p in components[part].parameters()} for part in NETWORKS if part in components}
    assert dtypes.pop("vae") == {torch.float32}
    assert all(found == {torch.bfloat16} for found in dtypes.values())
    networks = [components[part] for part in NETWORKS if part in components]
    assert not any(network.training or p.requires_grad for network in networks for p in network.parameters())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])  # as the file has it (mapped), and converted
def test_convolutions_lie_as_they_run_fastest_with_the_same_values_and_the_file_as_it_was(sd_folder, dtype):
    import torch
    from diffusers import UNet2DConditionModel

    weights = sd_folder / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    unet = load(read_folder(sd_folder, "tiny"), Placement("cpu", dtype, "float32"))["unet"]
    stock = UNet2DConditionModel.from_pretrained(sd_folder / "unet", torch_dtype=getattr(torch, dtype))
    for (name, ours), theirs in zip(unet.named_parameters(), stock.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        if ours.dim() == 4:
            assert ours.is_contiguous(memory_format=torch.channels_last), name
            assert ours.stride() == theirs.detach().clone().to(memory_format=torch.channels_last).stride(), name
    assert weights.read_bytes() == before


def test_bytes_are_those_of_the_weights(sd_folder):
    card = read_folder(sd_folder, "tiny")
    whole, half = (bytes_of(load(card, Placement("cpu", dtype, dtype))) for dtype in ("float32", "bfloat16"))
    assert card.size_bytes - 200_000 < whole <= card.size_bytes  # what is more is headers
    assert 0.5 <= half / whole < 0.51


def test_a_folder_of_fp16_files_alone_is_loaded(sd_folder, tmp_path):
    import diffusers
    import torch

    components = load(read_folder(sd_folder, "tiny"), FLOAT32)
    pipe = diffusers.StableDiffusionPipeline(**components, safety_checker=None, feature_extractor=None,
                                             requires_safety_checker=False)
    pipe.to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    loaded = load(read_folder(tmp_path / "half", "half"), FLOAT32)
    first = next(loaded["unet"].parameters())
    assert first.dtype == torch.float32
    assert torch.equal(first, next(components["unet"].parameters()).float())


def test_a_truncated_weight_file_is_refused_by_name(sd_folder, tmp_path):
    damaged = shutil.copytree(sd_folder, tmp_path / "damaged")
    card = read_folder(damaged, "damaged")
    weights = damaged / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="diffusion_pytorch_model.safetensors.*cut short") as caught:
        load(card, FLOAT32)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(("missing", "words"), [
    ("unet", "unet/config.json is missing"), ("unet/diffusion_pytorch_model.safetensors", "no weights for its unet"),
    ("vae", "vae/config.json is missing"), ("text_encoder/model.safetensors", "no weights for its text_encoder"),
    ("scheduler", "scheduler"), ("tokenizer", "tokenizer")])
def test_a_folder_without_one_of_its_parts_is_refused_by_its_name(sd_folder, tmp_path, missing, words):
    partial = shutil.copytree(sd_folder, tmp_path / "partial")
    gone = partial / missing
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(ModelError, match=words) as caught:
        load(read_folder(partial, "partial"), FLOAT32)
    assert str(tmp_path) not in str(caught.value)


def test_a_file_with_gaps_is_refused_in_a_sentence(sd_folder, tmp_path):
    from safetensors.numpy import save

    gappy = shutil.copytree(sd_folder, tmp_path / "gappy")
    weights = gappy / "unet" / "diffusion_pytorch_model.safetensors"
    data = save({"conv_in.bias": np.zeros(32, np.float32)})  # its header ends in spaces: room for another offset
    weights.write_bytes(data.replace(b"[0,128]", b"[4,132]") + b"1234")
    with pytest.raises(ModelError, match="gappy cannot be loaded"):
        load(read_folder(gappy, "gappy"), FLOAT32)


@pytest.mark.parametrize(("part", "name"), [("unet", "conv_in.weight"), ("text_encoder", "final_layer_norm.weight"),
                                            ("vae", "decoder.conv_in.weight")])
def test_missing_tensors_are_refused_instead_of_drawn_at_random(sd_folder, tmp_path, part, name):
    from safetensors.torch import load_file, save_file

    partial = shutil.copytree(sd_folder, tmp_path / "partial")
    weights = next((partial / part).glob("*.safetensors"))
    tensors = load_file(weights)
    kept = {key: tensor for key, tensor in tensors.items() if not key.endswith(name)}
    assert len(kept) == len(tensors) - 1
    save_file(kept, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"{weights.name}.*1 of its tensors.*{name}"):
        load(read_folder(partial, "partial"), FLOAT32)


def test_weights_of_another_shape_are_refused(sd_folder, tmp_path):
    mixed = shutil.copytree(sd_folder, tmp_path / "mixed")
    other = tiny_sd(tmp_path / "other", in_channels=9)
    name = "diffusion_pytorch_model.safetensors"
    shutil.copy(other / "unet" / name, mixed / "unet" / name)
    with pytest.raises(ModelError, match="mixed cannot be loaded") as caught:
        load(read_folder(mixed, "mixed"), FLOAT32)
    assert str(tmp_path) not in str(caught.value)


def test_a_single_file_gives_what_its_folder_gives(folder, tmp_path):
    from safetensors.torch import save_file

    card = read_folder(folder, "tiny")
    components = load(card, FLOAT32)
    file = tmp_path / "tiny.safetensors"
    save_file({key: tensor.contiguous().clone() for key, tensor in original(components).items()}, file)
    configs = shutil.copytree(folder, tmp_path / "configs", ignore=shutil.ignore_patterns("*.safetensors"))
    assert same(components_of_file(file, configs, FAMILIES[card.family], FLOAT32), components)


def test_clips_vocabulary_gives_the_known_token_ids(tmp_path):
    from transformers import CLIPTokenizer

    shutil.copytree(CONFIGS / "sd15" / "tokenizer", tmp_path / "tokenizer")
    write_vocabulary(tmp_path / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer", local_files_only=True)
    assert len(tokenizer) == 49408
    assert tokenizer("a photograph of an astronaut riding a horse").input_ids == [
        49406, 320, 8853, 539, 550, 18376, 6765, 320, 4558, 49407]
    assert tokenizer("", padding="max_length").input_ids == [49406] + [49407] * 76


@pytest.mark.parametrize("family", FULL_SIZE)
def test_the_configs_that_come_along_have_the_published_sizes(family):
    sizes = {part: sum(p.numel() for p in network.parameters()) for part, network in hollow_models(family).items()}
    assert sizes == FULL_SIZE[family]
    assert FAMILIES[family].unet_parameters == sizes["unet"]


@pytest.mark.parametrize(("family", "in_channels"), [
    ("sd15", 9), *(pytest.param(family, 4, marks=pytest.mark.slow) for family in FULL_SIZE)])
def test_a_full_size_single_file_loads_offline(family, in_channels, tmp_path):
    import torch

    tensors = original(hollow_models(family))
    first = "model.diffusion_model.input_blocks.0.0.weight"
    width = len(tensors[first])
    tensors[first] = torch.empty(width, in_channels, 3, 3, device="meta")
    card = read_file(write_hollow(tmp_path / "renamed beyond recognition.safetensors", tensors), "hollow")
    sizes = {**FULL_SIZE[family], "unet": FULL_SIZE[family]["unet"] + width * 9 * (in_channels - 4)}
    assert (card.family, card.unet_parameters, card.inpainting) == (family, sizes["unet"], in_channels == 9)
    components = load(card, Placement("cpu", "float16", "float16"))
    for part, parameters in sizes.items():
        assert sum(p.numel() for p in components[part].parameters()) == parameters
        assert {p.dtype for p in components[part].parameters()} == {torch.float16}
    assert components["unet"].config.in_channels == in_channels
    tokenizer = components[FAMILIES[family].text_encoders[0][0]]
    assert tokenizer.pad_token_id == (0 if family in ("sd2", "sdxl_refiner") else 49407)
    assert components["scheduler"].config.beta_schedule == "scaled_linear"
