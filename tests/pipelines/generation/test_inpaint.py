"""Inpainting: what is not masked stays byte for byte, what lies under the mask is drawn anew."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.events import ImageReady, Notice
from pipelines.families import FAMILIES
from pipelines.generation import samplers
from pipelines.models.cache import build
from pipelines.requests import Inpaint, Txt2Img, make

from .draw import BASE, disc, events, picture, pictures, same

pytestmark = pytest.mark.usefixtures("no_previews")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("area", ["Whole picture", "Only masked"])
@pytest.mark.parametrize("size", [(64, 64), (101, 67), (33, 90)])
def test_inpainting_leaves_the_rest_byte_identical(sd, mode, area, size):
    from pipelines.images import mask as masks

    source, painted = picture(size, mode), disc(size, (size[0] // 3, size[1] // 2), 9)
    request = make(Inpaint, **{**BASE, "image": "a", "mask": "m", "inpaint_area": area, "strength": 0.9,
                               "masked_padding": 8, "resize_mode": "stretch"})
    result = pictures(sd, request, {"a": source, "m": painted}, task="inpaint")[0]
    assert result.size == size and result.mode == mode
    kept = np.asarray(masks.prepare(painted, blur=request.mask_blur)) == 0
    before, after = np.asarray(source), np.asarray(result)
    assert kept.any() and (before[kept] == after[kept]).all()
    assert (before[np.asarray(painted) == 255] != after[np.asarray(painted) == 255]).any()


@pytest.mark.parametrize("sampler", ["Euler a", "DPM++ 2M", "DDIM", "Heun", "UniPC", "LCM"])
def test_latents_outside_the_mask_end_as_they_began(sd, sampler):
    import torch

    from pipelines.generation import init_latents
    from pipelines.generation.backends.unet import Guidance, UNetPredictor
    from pipelines.generation.denoise import denoise
    from pipelines.generation.noise import Draws
    from pipelines.prompts.embed import embed

    family, parts = sd
    pipe = build(family, "inpaint", parts)
    request = make(Inpaint, **{**BASE, "sampler": sampler, "image": "a", "mask": "m", "mask_blur": 0, "strength": 0.8})
    images = {"a": picture(), "m": disc((64, 64), (32, 32), 20)}
    source = init_latents.source_of(request, images.__getitem__)
    draws = Draws((torch.Generator().manual_seed(1),))
    scheduler = samplers.make(sampler, "Automatic", dict(parts["scheduler"].config), 4, "cpu")
    with torch.inference_mode():
        start = source.start(pipe, scheduler, draws)
    condition = embed(pipe, FAMILIES[family], "a cat", "")
    predictor = UNetPredictor(pipe, FAMILIES[family], scheduler, condition, Guidance(5.0), start.extra)
    *_, last = denoise(predictor, sampler, scheduler, start, draws.generators)
    outside = (start.mask == 0).expand_as(last.latents)
    assert outside.any() and (start.mask == 1).any()
    torch.testing.assert_close(last.latents[outside], start.original[outside], atol=0, rtol=0)
    assert not torch.equal(last.latents[~outside], start.original[~outside])


@pytest.mark.parametrize("content", ["fill", "original", "latent noise", "latent nothing"])
def test_masked_content_decides_what_lies_under_the_mask(sd, content):
    request = make(Inpaint, **{**BASE, "image": "a", "mask": "m", "masked_content": content, "strength": 0.3})
    other = make(Inpaint, **{**BASE, "image": "a", "mask": "m", "strength": 0.3,
                             "masked_content": "fill" if content == "original" else "original"})
    images = {"a": picture(), "m": disc((64, 64), (32, 32), 20)}
    assert not same(*(pictures(sd, one, images, task="inpaint")[0] for one in (request, other)))


@pytest.mark.parametrize("invert", [False, True])
def test_what_is_transparent_can_be_the_mask_and_nothing_else_changes(sd, invert):
    hole = disc((75, 64), (30, 32), 12)
    source = picture((75, 64), "RGB")
    source.putalpha(hole.point(lambda value: 255 - value))
    request = make(Inpaint, **{**BASE, "image": "a", "transparent_mask": True, "mask_blur": 0, "mask_invert": invert,
                               "resize_mode": "stretch", "strength": 0.9})
    seen = events(sd, request, {"a": source}, task="inpaint")
    result = next(event.image for event in seen if isinstance(event, ImageReady))
    before, after, drawn = np.asarray(source), np.asarray(result), (np.asarray(hole) == 255) != invert
    assert (before[~drawn] == after[~drawn]).all() and (after[drawn][:, 3] == 255).all()
    assert not any(isinstance(event, Notice) for event in seen)


def test_a_picture_without_transparent_parts_says_that_its_transparency_masks_nothing(sd):
    request = make(Inpaint, **{**BASE, "image": "a", "mask": "m", "transparent_mask": True})
    seen = events(sd, request, {"a": picture(), "m": disc((64, 64), (32, 32), 20)}, task="inpaint")
    assert [event.text for event in seen if isinstance(event, Notice)] == [
        "The picture has no transparent part, so its transparency masks nothing."]


def test_a_mask_of_another_size_is_scaled_and_said_and_the_rest_stays_byte_identical(sd):
    source, painted = picture((101, 67)), Image.new("L", (202, 201))
    painted.paste(255, (80, 90, 120, 150))
    request = make(Inpaint, **{**BASE, "image": "a", "mask": "m", "mask_blur": 0, "resize_mode": "stretch"})
    seen = events(sd, request, {"a": source, "m": painted}, task="inpaint")
    result = next(event.image for event in seen if isinstance(event, ImageReady))
    assert any(isinstance(event, Notice) and "202 x 201 px and the picture 101 x 67 px" in event.text for event in seen)
    changed = (np.asarray(source) != np.asarray(result)).any(-1)
    assert changed[32:48, 42:58].any()
    changed[29:51, 39:61] = False
    assert not changed.any()


def test_grey_in_a_soft_mask_changes_less_than_white(sd):
    source = Image.new("RGB", (64, 64), (90, 120, 150))
    change = []
    for value in (255, 100):
        request = make(Inpaint, **{**BASE, "steps": 10, "image": "a", "mask": "m", "soft_mask": True, "mask_blur": 0,
                                   "strength": 1.0})
        images = {"a": source, "m": Image.new("L", (64, 64), value)}
        result = pictures(sd, request, images, task="inpaint")[0]
        hard = pictures(sd, make(Inpaint, **{**request.model_dump(), "soft_mask": False}), images, task="inpaint")[0]
        change.append((result, hard))
    assert same(*change[0])  # white is white
    assert not same(change[1][0], change[0][0])


def test_empty_mask_draws_the_whole_picture_and_says_so(sd):
    request = make(Inpaint, **{**BASE, "image": "a"})
    seen = events(sd, request, {"a": picture()}, task="inpaint")
    assert any(isinstance(event, Notice) and "mask is empty" in event.text for event in seen)
    assert not same(next(event.image for event in seen if isinstance(event, ImageReady)), picture())


def test_a_mask_outside_the_cropped_part_is_left_alone_and_said(sd):
    source, painted = picture((128, 64)), disc((128, 64), (6, 32), 5)
    painted.paste(255, (60, 20, 80, 40))
    request = make(Inpaint, **{**BASE, "image": "a", "mask": "m", "resize_mode": "crop", "mask_blur": 0})
    seen = events(sd, request, {"a": source, "m": painted}, task="inpaint")
    assert any(isinstance(event, Notice) and "outside" in event.text for event in seen)
    result = next(event.image for event in seen if isinstance(event, ImageReady))
    assert same(result.crop((0, 0, 32, 64)), source.crop((0, 0, 32, 64)))


def test_outpainting_enlarges_and_keeps_the_old_picture_far_from_the_seam(sd):
    source = picture((64, 64))
    request = make(Inpaint, **{**BASE, "image": "a", "outpaint_right": 32, "outpaint_top": 8, "width": 96,
                               "height": 72, "strength": 1.0})
    result = pictures(sd, request, {"a": source}, task="inpaint")[0]
    assert result.size == (96, 72)
    assert same(result.crop((0, 40, 30, 72)), source.crop((0, 32, 30, 64)))


def test_a_nine_channel_checkpoint_inpaints_and_keeps_the_rest(sd9):
    source, painted = picture((80, 64)), disc((80, 64), (40, 32), 12)
    request = make(Inpaint, **{**BASE, "image": "a", "mask": "m", "strength": 1.0})
    result = pictures(sd9, request, {"a": source, "m": painted}, task="inpaint")[0]
    kept = np.asarray(painted.resize((80, 64))) == 0
    far = kept & (np.hypot(*np.mgrid[-32:32, -40:40]) > 35)
    assert (np.asarray(source)[far] == np.asarray(result)[far]).all() and not same(result, source)
    assert len(pictures(sd9, make(Txt2Img, **BASE))) == 1  # and it can draw from nothing
