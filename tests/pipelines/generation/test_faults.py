"""Memory that runs out and numbers that break: faults raised by hooks on the real modules."""

from __future__ import annotations

import pytest

from pipelines.errors import ModelError, OutOfMemory
from pipelines.events import ImageReady, Notice, StepDone
from pipelines.generation.fitting import advice as advice_for
from pipelines.requests import Txt2Img, Upscale, make

from .draw import BASE, FaultAt, events, furthest, out_of_memory, pictures, same

pytestmark = pytest.mark.usefixtures("no_previews")


def test_out_of_memory_splits_the_batch_and_makes_the_same_pictures(sd):
    request = make(Txt2Img, **{**BASE, "batch_size": 4})
    expected = pictures(sd, request)
    with FaultAt(sd[1]["unet"], {2}, out_of_memory()):
        seen = events(sd, request)
    made = [event for event in seen if isinstance(event, ImageReady)]
    assert [event.request.seed for event in made] == [7, 8, 9, 10]
    assert any(isinstance(event, Notice) and "going on with 2" in event.text for event in seen)
    assert max(furthest(event.image, other) for event, other in zip(made, expected, strict=True)) <= 1


def test_out_of_memory_for_one_picture_names_a_smaller_size_and_the_next_job_works(sd):
    request = make(Txt2Img, **{**BASE, "width": 512, "height": 512, "steps": 1})
    with FaultAt(sd[1]["unet"], range(1, 99), out_of_memory()), pytest.raises(OutOfMemory, match="Try 320x320 px"):
        events(sd, request)
    assert len(pictures(sd, make(Txt2Img, **BASE))) == 1


@pytest.mark.parametrize("side", [64, 72, 256, 320, 1024, 2048])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_advice_never_names_what_did_not_fit(side, batch_size):
    request = make(Txt2Img, **{**BASE, "width": side, "height": side, "batch_size": batch_size})
    advice = advice_for(request)
    assert advice.count(f"{side}x{side}") == 1
    assert ("fewer pictures" in advice) == (batch_size > 1)
    assert "Try " in advice or "choose a smaller model" in advice
    tiles = advice_for(make(Upscale, **{**BASE, "image": "x", "tile": side, "width": None, "height": None}))
    assert tiles.count(f"{side} px") == 1


def test_failed_attempts_keep_no_tensors_alive(sd):
    import gc

    import torch

    pictures(sd, make(Txt2Img, **BASE))
    gc.collect()
    before = sum(torch.is_tensor(o) for o in gc.get_objects())
    with FaultAt(sd[1]["unet"], range(1, 99), out_of_memory()), pytest.raises(OutOfMemory):
        events(sd, make(Txt2Img, **{**BASE, "batch_size": 4}))
    gc.collect()
    assert sum(torch.is_tensor(o) for o in gc.get_objects()) <= before


def test_out_of_memory_while_decoding_is_retried_in_tiles(sd):
    with FaultAt(sd[1]["vae"].decoder, {1}, out_of_memory()):
        seen = events(sd, make(Txt2Img, **BASE))
    assert any(isinstance(event, Notice) and "tiles" in event.text for event in seen)
    assert isinstance(seen[-1], ImageReady) and sd[1]["vae"].use_tiling is False


def test_not_a_number_while_denoising_is_an_error_and_not_a_black_picture(sd):
    with FaultAt(sd[1]["unet"], {2}), pytest.raises(ModelError, match="overflowed"):
        events(sd, make(Txt2Img, **BASE))
    assert len(pictures(sd, make(Txt2Img, **BASE))) == 1


def test_a_half_precision_decoder_that_gives_nan_is_retried_in_float32(sd):
    import torch

    vae = sd[1]["vae"]
    vae.to(torch.bfloat16)
    try:
        with FaultAt(vae.decoder, {1}):
            seen = events(sd, make(Txt2Img, **BASE))
        assert vae.dtype == torch.bfloat16
    finally:
        vae.to(torch.float32)
    assert any(isinstance(event, Notice) and "float32" in event.text for event in seen)
    assert isinstance(seen[-1], ImageReady)


def test_a_decoder_that_gives_nan_and_has_no_room_in_float32_is_retried_in_tiles(sd):
    import torch

    vae = sd[1]["vae"]
    vae.to(torch.bfloat16)
    try:
        with FaultAt(vae.decoder, {1}), FaultAt(vae.decoder, {2}, out_of_memory()):
            seen = events(sd, make(Txt2Img, **BASE))
        assert vae.dtype == torch.bfloat16 and vae.use_tiling is False
    finally:
        vae.to(torch.float32)
    assert [word for event in seen if isinstance(event, Notice) for word in ("float32", "tiles") if word in event.text
            ] == ["float32", "tiles"]
    assert isinstance(seen[-1], ImageReady)


@pytest.mark.parametrize("words", ["MPS backend out of memory (MPS allocated: 9 GB)", "CUDA error: out of memory",
                                   "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: "
                                   "you tried to allocate 9 bytes."])
def test_out_of_memory_is_known_by_the_words_of_every_system(sd, words):
    with FaultAt(sd[1]["unet"], {1}, RuntimeError(words)):
        seen = events(sd, make(Txt2Img, **{**BASE, "batch_size": 2}))
    assert sum(isinstance(event, ImageReady) for event in seen) == 2


def test_main_memory_for_two_pictures_makes_four_in_two_halves(sd, monkeypatch):
    from pipelines.machine import device

    request = make(Txt2Img, **{**BASE, "batch_size": 4})
    expected = pictures(sd, request)
    needed = 2 * 64 * 64 / 64 * 4 * _channels(sd[1]["unet"].config)
    monkeypatch.setattr(device, "host_free_bytes", lambda: 2.5 * needed)
    seen = events(sd, request)
    made = [event for event in seen if isinstance(event, ImageReady)]
    assert "4 pictures at once; going on with 2" in seen[0].text
    assert [event.request.seed for event in made] == [7, 8, 9, 10]
    assert max(furthest(event.image, other) for event, other in zip(made, expected, strict=True)) <= 1


def test_a_float32_decoder_that_gives_nan_is_an_error(sd):
    with FaultAt(sd[1]["vae"].decoder, {1}), pytest.raises(ModelError, match="no valid picture"):
        events(sd, make(Txt2Img, **BASE))


def test_previews_are_drawn_within_their_share_of_the_time(sd, monkeypatch):
    monkeypatch.setattr("pipelines.generation.decode.PREVIEW_EVERY_S", 0.0)
    seen = [event for event in events(sd, make(Txt2Img, **{**BASE, "steps": 120})) if isinstance(event, StepDone)]
    drawn = [event.preview for event in seen if event.preview]
    assert drawn and all(image.mode == "RGB" and max(image.size) <= 512 for image in drawn)
    assert len(drawn) < len(seen) / 4 and seen[-1].preview is None


def test_a_preview_that_does_not_fit_in_memory_ends_previews_and_not_the_run(sd, monkeypatch):
    monkeypatch.setattr("pipelines.generation.decode.PREVIEW_EVERY_S", 0.0)
    expected = pictures(sd, make(Txt2Img, **BASE))[0]
    with FaultAt(sd[1]["vae"].decoder, {1}, out_of_memory()):
        seen = events(sd, make(Txt2Img, **BASE))
    assert not any(isinstance(event, StepDone) and event.preview for event in seen)
    assert same(seen[-1].image, expected)


def _channels(config):
    """What the estimate counts for each latent of one row."""
    from pipelines.generation.fitting import LAYERS_AT_ONCE

    widths = config.block_out_channels
    skips = sum((config.layers_per_block + 1) * width / 4**level for level, width in enumerate(widths))
    return skips + LAYERS_AT_ONCE * widths[0]
