"""The layers do what their equations say, and the exported file means the same to every reader."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipelines.adapters import read as adapters
from pipelines.adapters.delta import change
from pipelines.models.cache import build
from pipelines.prompts.embed import embed
from pipelines.training.numbers import base_model as bases
from pipelines.training.numbers import text
from pipelines.training.numbers import trainable as trainees
from pipelines.training.numbers.lowrank import LowRankLayer
from pipelines.training.presets import resolve
from pipelines.training.run import export
from tests.pipelines.training.conftest import settings_beside


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("base", [nn.Linear(6, 10), nn.Linear(6, 10, bias=False),
                                  nn.Conv2d(6, 10, 3, stride=2, padding=1), nn.Conv2d(6, 10, 1)])
def test_a_layer_acts_as_the_changed_weight_would(base, dora):
    generator = torch.Generator().manual_seed(0)
    base.requires_grad_(False)
    x = torch.randn((2, 6, 8, 8) if isinstance(base, nn.Conv2d) else (2, 5, 6), generator=generator)
    plain = base(x)
    layer = LowRankLayer(base, 3, 0.7, 0.0, dora, generator)
    assert torch.allclose(base(x), plain, atol=1e-6)  # at the start nothing is changed
    with torch.no_grad():
        layer.up.normal_(generator=generator)
        if dora:
            layer.magnitude.mul_(1.5)
    with_layer = base(x)
    layer.detach()
    assert torch.equal(base(x), plain)
    weight = base.weight + layer.delta()
    if dora:
        rows = weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.dim() - 1))
        weight = layer.magnitude.detach().view_as(rows) * weight / rows
    base.weight.copy_(weight.detach())
    assert torch.allclose(with_layer, base(x), atol=1e-4)


def trained(folder, tmp_path, make_config, **changes):
    """A base and a trainee with weights as after training."""
    config = make_config(model=str(folder), save_dtype="float32", **changes)
    settings = settings_beside(tmp_path)
    card = bases.find_card(config, settings)
    config = resolve(config, pictures=5, native_size=64, unet_parameters=card.unet_parameters)
    base = bases.load(card, config, settings)
    trainee = trainees.make(base, config)
    with torch.no_grad():
        for i, parameter in enumerate(trainee.parameters):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)))
    return base, trainee, config


@pytest.mark.parametrize("shape", ["sd", "sdxl"])
@pytest.mark.parametrize("changes", [
    {"rank": 4, "alpha": 2.0}, {"rank": 4, "alpha": 8.0, "rslora": True, "text_encoder": "attention"},
    {"rank": 3, "alpha": 3.0, "targets": "attention+ff+conv", "text_encoder": "attention+mlp", "dora": True},
], ids=["plain", "rslora and text", "everything"])
def test_the_exported_file_means_what_was_trained(shape, changes, sd_folder, sdxl_folder, tmp_path, make_config):
    folder = sd_folder if shape == "sd" else sdxl_folder
    base, trainee, config = trained(folder, tmp_path, make_config, **changes)
    name = export.Export(base, trainee, config, ()).result(tmp_path, 7, None, tmp_path / "second")
    pipe = build(base.family.name, "txt2img", base.components)
    layers = trainee.adapter.layers
    for path in (tmp_path / name, tmp_path / "second" / name):
        adapter = adapters.read(path, pipe, base.family)
        assert adapter.parts.keys() == layers.keys() and not adapter.unmatched
        for layer, part in adapter.parts.items():
            weight = pipe_module(pipe, layer).weight
            wanted = layers[layer].delta()
            if config.dora:
                whole = weight + wanted
                rows = whole.flatten(1).norm(dim=1).view(-1, *[1] * (weight.dim() - 1))
                wanted = layers[layer].magnitude.view_as(rows) * whole / rows - weight
            assert torch.allclose(change(part, weight), wanted, atol=1e-5), layer


def pipe_module(pipe, path: str) -> nn.Module:
    component, inner = path.split(".", 1)
    return getattr(pipe, component).get_submodule(inner)


@pytest.mark.parametrize("shape", ["sd", "sdxl"])
@pytest.mark.parametrize("clip_skip", [1, 2])
def test_captions_are_embedded_as_prompts_are(shape, clip_skip, sd_folder, sdxl_folder, tmp_path, make_config):
    base, trainee, _ = trained(sd_folder if shape == "sd" else sdxl_folder, tmp_path, make_config)
    trainee.adapter.detach()
    pipe = build(base.family.name, "txt2img", base.components)
    embeds, pooled = text.encode(base.components, base.family, ["a red cat", ""], clip_skip)
    wanted = embed(pipe, base.family, "a red cat", "", clip_skip=clip_skip, guided=False)
    assert torch.allclose(embeds[:1], wanted.embeds, atol=1e-6)
    assert pooled is None or torch.allclose(pooled[:1], wanted.pooled, atol=1e-6)
