"""The memory estimate against what tensors of published shape take, and the choice that follows from it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import activations
from pipelines.checkpoints.card import ModelCard, read_folder
from pipelines.device import Placement
from pipelines.errors import ModelError
from pipelines.events import ImageReady
from pipelines.families import FAMILIES
from pipelines.models import estimate
from pipelines.models.cache import build
from pipelines.models.estimate import Need, need, offload_for, placement_for, sentence
from pipelines.models.loading import bytes_of, load
from pipelines.models.offload import by_layers, offloaded
from pipelines.requests import Txt2Img, make
from pipelines.settings import Settings

HALF = Placement("cpu", "float16", "float16")
REQUEST = make(Txt2Img, prompt="a red cat", sampler="DDIM", schedule="Automatic", steps=2, guidance_scale=5.0, width=64,
               height=64, seed=1)


def card(family="sd15", **parameters):
    return ModelCard(name="m", title="m", path=None, family=family, kind="folder", size_bytes=10, native_size=512,
                     steps=20, guidance_scale=7, sampler="DDIM", schedule="Automatic", unet_parameters=1,
                     fingerprint="", parameters=parameters)


def draw(pipe):
    from pipelines.generation import generate

    made = generate.run(REQUEST, pipe, FAMILIES["sd15"], {}.get)
    return np.asarray(next(event.image for event in made if isinstance(event, ImageReady)), int)


def test_a_step_and_a_decode_of_published_shape_take_what_is_estimated():
    step = activations.unet_step("sd15", 256)
    assert need(card(unet=0), HALF, 256, 256).work >= step
    assert FAMILIES["sd15"].step_bytes * 256**2 * 2 == pytest.approx(step, rel=0.05)
    decoded = activations.decode("sd15", 256)
    assert need(card(unet=0), HALF, 256, 256).work == pytest.approx(max(step, decoded), rel=0.05)


def test_the_count_of_living_tensors_is_that_of_real_ones():
    import torch

    def run():
        a = torch.ones(1000)  # 4 kB
        b = a + 1
        del a
        return b * 2 + 1  # with b and the product: three at once

    assert activations.peak(run) == 12_000


def test_the_weights_are_those_that_will_be_loaded(sd_folder):
    found = read_folder(sd_folder, "tiny")
    for dtype in ("float32", "bfloat16"):
        placement = Placement("cpu", dtype, "float32")
        loaded = bytes_of(load(found, placement))
        assert need(found, placement, 64, 64).weights == pytest.approx(loaded, rel=0.01)


def test_more_pixels_pictures_and_guidance_need_more_and_a_large_decode_stays_in_its_windows():
    small, large = need(card(unet=0), HALF, 512, 512), need(card(unet=0), HALF, 1024, 1024)
    assert large.work == 4 * small.work
    many = need(card(unet=0), HALF, 512, 512, batch_size=8)
    assert many.work > small.work
    assert need(card(unet=0), HALF, 512, 512, batch_size=8, guided=False).work < many.work
    assert need(card(unet=0), HALF, 4096, 4096, guided=False).work <= estimate.DECODE_MOST_BYTES


def test_the_mode_that_fits_with_the_fewest_transfers_is_chosen_and_said():
    needed = Need(weights=10_000_000_000, largest=6_000_000_000, work=1_000_000_000)
    assert [offload_for(needed, free) for free in (11e9, 8e9, 3e9)] == ["none", "model", "group"]
    assert sentence(needed, "none", int(24e9)) == "Needs about 11.0 of 24 GB"
    assert "waiting in main memory" in sentence(needed, "model", int(8e9))
    assert sentence(needed, "none", int(8e9)).endswith("too much")


def test_eight_bits_halve_the_weights_again_and_draw_nearly_the_same(sd_folder):
    found = read_folder(sd_folder, "tiny")
    plain = load(found, Placement("cpu", "bfloat16", "float32"))
    small = Placement("cpu", "bfloat16", "float32", weights="8-bit")
    eight = load(found, small)
    assert bytes_of({"unet": eight["unet"]}) < 0.55 * bytes_of({"unet": plain["unet"]})
    assert need(found, small, 64, 64).weights == pytest.approx(bytes_of(eight), rel=0.02)
    before, after = draw(build("sd15", "txt2img", plain)), draw(build("sd15", "txt2img", eight))
    assert 0 < np.abs(before - after).mean() < 6


def test_a_format_without_a_backend_is_refused_in_a_sentence():
    with pytest.raises(ModelError, match="4-bit"):
        placement_for(card(), Settings(quantize="4-bit", device="cpu"), 10**10)


@pytest.mark.parametrize("mode", ["model", "group"])
def test_an_offloaded_model_draws_the_same_picture_and_is_whole_afterwards(sd_folder, mode):
    components = load(read_folder(sd_folder, "tiny"), Placement("cpu", "float32", "float32"))
    pipe = build("sd15", "txt2img", components)
    before = draw(pipe)
    placement = Placement("cpu", "float32", "float32", offload=mode)  # the device is played by the CPU
    if mode == "group":
        for part in ("unet", "vae", "text_encoder"):
            by_layers(components[part], placement)
    with offloaded(pipe, placement):
        assert (draw(pipe) == before).all()
    assert (draw(build("sd15", "txt2img", components)) == before).all()
    assert not hasattr(components["unet"], "_hf_hook")
