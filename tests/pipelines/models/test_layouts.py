"""The same weights in the original layout and as a diffusers folder draw the same picture."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from pipelines.events import ImageReady
from pipelines.families import FAMILIES
from pipelines.library.read.card import networks_of, read_file, read_folder
from pipelines.machine.device import Placement
from pipelines.models.cache import build
from pipelines.models.loading import components_of_file, load
from pipelines.models.memory_format import settled
from pipelines.requests import TASKS, make
from tests.original_layout import original
from tests.tiny import tiny_sd, tiny_sdxl
from tests.tiny_families import write_tiny

PLACE = Placement("cpu", "float32", "float32")
MODELS = {"SD 1.x": tiny_sd, "SD 1.x inpainting": lambda folder: tiny_sd(folder, in_channels=9),
          "SD 2.x": lambda folder: open_clip(tiny_sd(folder)),
          "SD 2.x, v": lambda folder: open_clip(tiny_sd(folder, prediction_type="v_prediction")),
          "SDXL": tiny_sdxl, "SDXL inpainting": lambda folder: tiny_sdxl(folder, in_channels=9),
          "SDXL refiner": lambda folder: write_tiny("sdxl_refiner", folder)}
IMAGES = {"picture": Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)),
          "mask": Image.new("L", (64, 64), 255)}


def open_clip(folder):
    """Give the text encoder OpenCLIP's activation, by which the layout of 2.x is told."""
    path = folder / "text_encoder" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_act": "gelu"}))
    return folder


def draw(card, components):
    from pipelines.generation import generate

    task = card.tasks[-1]  # a model for inpainting does nothing else
    request = make(TASKS[task], prompt="a red cat", negative_prompt="a dog", sampler=card.sampler, schedule="Automatic",
                   steps=3, guidance_scale=5.0, width=64, height=64, seed=3, image="picture", mask="mask")
    pipe = build(card.family, task, components)
    made = generate.run(request, pipe, FAMILIES[card.family], IMAGES.__getitem__)
    return np.asarray(next(event.image for event in made if isinstance(event, ImageReady)), int)


@pytest.mark.parametrize("kind", MODELS)
def test_both_layouts_draw_the_same_picture(kind, tmp_path):
    import torch
    from safetensors.torch import save_file

    folder = MODELS[kind](tmp_path / "model")
    card = read_folder(folder, "model")
    components = load(card, PLACE)
    file = tmp_path / "model.safetensors"
    save_file({name: tensor.contiguous().clone() for name, tensor in original(components).items()}, file)
    configs = shutil.copytree(folder, tmp_path / "configs", ignore=shutil.ignore_patterns("*.safetensors"))
    from_file = components_of_file(file, configs, FAMILIES[card.family], PLACE)
    for part in networks_of(FAMILIES[card.family]):  # as `load` does with what it gets of either
        if from_file.get(part) is not None:
            from_file[part] = settled(from_file[part], part, "model", PLACE, torch.float32)
    settings = {name: part for name, part in components.items() if not hasattr(part, "parameters")}
    from_file = {**settings, **from_file}
    # Where a mapped weight begins in memory changes the last bit of a product, which now and then turns one step of
    # 255; other weights differ by tens.
    assert np.abs(draw(card, from_file) - draw(card, components)).max() <= 2


def test_what_a_file_is_told_to_predict_changes_its_picture(tmp_path):
    components = load(read_folder(tiny_sd(tmp_path / "noise"), "m"), PLACE)
    card = read_folder(tiny_sd(tmp_path / "v", prediction_type="v_prediction"), "m")
    assert np.abs(draw(card, components) - draw(card, load(card, PLACE))).max() > 20


@pytest.mark.parametrize(("said", "marks", "expected"), [
    ("v", {}, "v_prediction"), ("epsilon", {"v_pred": (1,)}, "epsilon"), ("", {"v_pred": (1,)}, "v_prediction"),
    ("nonsense", {}, "epsilon")])
def test_a_file_of_any_family_says_what_it_predicts(tmp_path, said, marks, expected):
    import torch
    from safetensors.torch import save_file

    shapes = {"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
              "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (8, 768),
              "first_stage_model.encoder.conv_in.weight": (8, 3, 3, 3),
              "cond_stage_model.transformer.text_model.final_layer_norm.weight": (768,), **marks}
    path = tmp_path / "m.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path,
              metadata={"modelspec.prediction_type": said} if said else None)
    card = read_file(path, "m")
    assert card.scheduler.get("prediction_type") == expected
