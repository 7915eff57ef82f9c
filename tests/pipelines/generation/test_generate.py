"""The denoise loop against the stock pipelines, and its promises: seeds, stop, memory, byte-identical inpainting."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.control import Control
from pipelines.errors import Cancelled, ModelError, OutOfMemory, RequestError
from pipelines.events import ImageReady, Notice, StepDone
from pipelines.families import FAMILIES
from pipelines.generation import samplers
from pipelines.models.cache import build
from pipelines.requests import Img2Img, Inpaint, Txt2Img, make

BASE = dict(prompt="a red cat", negative_prompt="a dog", sampler="DPM++ 2M", schedule="Automatic", steps=4,
            guidance_scale=5.0, width=64, height=64, seed=7)


def components(folder):
    """The parts of a folder, as the cache keeps them."""
    import diffusers

    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return {name: part for name, part in pipe.components.items() if part is not None}


@pytest.fixture(scope="module")
def sd(sd_folder):
    return "sd15", components(sd_folder)


@pytest.fixture(scope="module")
def sdxl(sdxl_folder):
    return "sdxl", components(sdxl_folder)


@pytest.fixture(scope="module")
def sd9(sd9_folder):
    return "sd15", components(sd9_folder)


def picture(size=(64, 64), mode="RGB", seed=0):
    bands = len(mode)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), np.uint8)
    return Image.fromarray(values[..., 0] if bands == 1 else values, mode)


def disc(size, centre, radius):
    y, x = np.mgrid[: size[1], : size[0]]
    return Image.fromarray((((x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2) * 255).astype(np.uint8))


def events(model, request, images=None, control=None, task="txt2img"):
    from pipelines.generation import generate

    family, parts = model
    pipe = build(family, task, parts)
    return list(generate.run(request, pipe, FAMILIES[family], (images or {}).__getitem__, control))


def pictures(*args, **kwargs):
    return [event.image for event in events(*args, **kwargs) if isinstance(event, ImageReady)]


def stock(model, task, request, **kwargs):
    """The same picture by the stock pipeline, with the same scheduler and generators."""
    import torch

    family, parts = model
    pipe = build(family, task, parts)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = samplers.make(request.sampler, request.schedule, dict(parts["scheduler"].config), request.steps,
                                   "cpu")
    generators = [torch.Generator().manual_seed(request.seed + i) for i in range(request.batch_size)]
    return pipe(prompt=[request.prompt] * request.batch_size,
                negative_prompt=[request.negative_prompt] * request.batch_size,
                num_inference_steps=request.steps, guidance_scale=request.guidance_scale, generator=generators,
                **kwargs).images


def same(a, b):
    return a.size == b.size and a.mode == b.mode and a.tobytes() == b.tobytes()


def furthest(a, b):
    return int(np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).max())


@pytest.fixture(autouse=True)
def no_previews(monkeypatch):
    """On a busy machine a preview would be one more call of the decoder; the tests that want some turn them on."""
    monkeypatch.setattr("pipelines.generation.decode.PREVIEW_EVERY_S", 999)


# Against the stock pipelines

@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_text_to_image_equals_the_stock_pipeline(sd, sampler):
    request = make(Txt2Img, **{**BASE, "sampler": sampler})
    assert same(pictures(sd, request)[0], stock(sd, "txt2img", request, width=64, height=64)[0])


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_image_to_image_equals_the_stock_pipeline(sd, sampler):
    source = picture()
    request = make(Img2Img, **{**BASE, "sampler": sampler, "image": "a", "strength": 0.6, "steps": 5})
    ours = pictures(sd, request, {"a": source}, task="img2img")[0]
    assert same(ours, stock(sd, "img2img", request, image=source, strength=0.6)[0])


@pytest.mark.parametrize("guidance_scale", [1.0, 6.0])
def test_sdxl_equals_the_stock_pipeline(sdxl, guidance_scale):
    request = make(Txt2Img, **{**BASE, "guidance_scale": guidance_scale, "sampler": "Euler"})
    assert same(pictures(sdxl, request)[0], stock(sdxl, "txt2img", request, width=64, height=64)[0])


def test_sdxl_image_to_image_equals_the_stock_pipeline(sdxl):
    source = picture()
    request = make(Img2Img, **{**BASE, "sampler": "Euler", "image": "a", "strength": 0.5})
    ours = pictures(sdxl, request, {"a": source}, task="img2img")[0]
    assert same(ours, stock(sdxl, "img2img", request, image=source, strength=0.5)[0])


def test_empty_negative_prompt_is_zeros_for_sdxl_as_in_stock(sdxl):
    request = make(Txt2Img, **{**BASE, "negative_prompt": "", "sampler": "Euler"})
    family, parts = sdxl
    import torch

    pipe = build(family, "txt2img", parts)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = samplers.make("Euler", "Automatic", dict(parts["scheduler"].config), 4, "cpu")
    theirs = pipe(request.prompt, num_inference_steps=4, guidance_scale=5.0, width=64, height=64,
                  generator=torch.Generator().manual_seed(7)).images[0]
    assert same(pictures(sdxl, request)[0], theirs)


def test_v_prediction_equals_the_stock_pipeline(tmp_path):
    from tests.tiny import tiny_sd

    model = "sd15", components(tiny_sd(tmp_path / "v", prediction_type="v_prediction"))
    request = make(Txt2Img, **{**BASE, "sampler": "DDIM"})
    assert same(pictures(model, request)[0], stock(model, "txt2img", request, width=64, height=64)[0])


# Seeds and batches

def test_each_picture_of_a_batch_has_its_own_seed_and_can_be_had_alone(sd):
    request = make(Txt2Img, **{**BASE, "batch_size": 3, "batch_count": 2})
    made = [event for event in events(sd, request) if isinstance(event, ImageReady)]
    assert [event.request.seed for event in made] == [7, 8, 9, 10, 11, 12]
    for event in made:
        assert event.request.batch_size == event.request.batch_count == 1
        assert furthest(pictures(sd, event.request)[0], event.image) <= 1


def test_the_same_request_gives_the_same_bytes_whatever_ran_between(sd, sdxl):
    request = make(Txt2Img, **BASE)
    before = pictures(sd, request)[0]
    pictures(sdxl, make(Txt2Img, **{**BASE, "sampler": "Heun"}))
    pictures(sd, make(Img2Img, **{**BASE, "image": "a", "sampler": "Euler a"}), {"a": picture()}, task="img2img")
    assert same(pictures(sd, request)[0], before)
    assert not same(pictures(sd, make(Txt2Img, **{**BASE, "seed": 8}))[0], before)


def test_each_line_of_the_prompt_is_drawn(sd):
    request = make(Txt2Img, **{**BASE, "prompt": "a cat\n\n a house ", "prompt_lines": True, "batch_size": 2})
    made = [event.request for event in events(sd, request) if isinstance(event, ImageReady)]
    assert [(one.prompt, one.seed) for one in made] == [("a cat", 7), ("a cat", 8), ("a house", 9), ("a house", 10)]
    assert not any(one.prompt_lines for one in made)


def test_clip_skip_changes_both_prompts_and_one_is_the_last_layer(sd):
    import torch

    from pipelines.prompts.embed import embed

    family, parts = sd
    pipe = build(family, "txt2img", parts)
    first, second = (embed(pipe, FAMILIES[family], "a cat", "a dog", clip_skip=skip).embeds for skip in (1, 2))
    out = parts["text_encoder"](parts["tokenizer"](
        ["a dog", "a cat"], padding="max_length", max_length=77, return_tensors="pt").input_ids,
        output_hidden_states=True)
    encoder = getattr(parts["text_encoder"], "text_model", parts["text_encoder"])
    torch.testing.assert_close(first, out.last_hidden_state, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(second, encoder.final_layer_norm(out.hidden_states[-2]), atol=1e-5, rtol=1e-4)


def test_clip_skip_beyond_the_encoder_is_refused_with_its_layers(sd):
    with pytest.raises(RequestError, match="Clip skip: 9 is not possible. This model's text encoder has 3 layers"):
        events(sd, make(Txt2Img, **{**BASE, "clip_skip": 9}))


# Steps, stop and skip

@pytest.mark.parametrize(("steps", "strength", "run"), [(10, 0.5, 5), (10, 0.99, 9), (10, 1.0, 10), (10, 0.01, 1)])
def test_strength_leaves_that_many_steps(sd, steps, strength, run):
    request = make(Img2Img, **{**BASE, "steps": steps, "strength": strength, "image": "a", "sampler": "Euler"})
    seen = [event for event in events(sd, request, {"a": picture()}, task="img2img") if isinstance(event, StepDone)]
    assert [event.step for event in seen] == list(range(1, run + 1)) and seen[0].steps == run


def test_strength_zero_is_refused_by_name():
    with pytest.raises(RequestError, match="Strength: 0 is not possible"):
        make(Img2Img, strength=0)


def test_stop_ends_within_one_step_and_keeps_what_is_finished(sd):
    from pipelines.generation import generate

    family, parts = sd
    control, seen = Control(), []
    request = make(Txt2Img, **{**BASE, "batch_count": 3})
    with pytest.raises(Cancelled):
        for event in generate.run(request, build(family, "txt2img", parts), FAMILIES[family], {}.get, control):
            seen.append(event)
            if isinstance(event, StepDone) and (event.image, event.step) == (2, 2):
                control.stop.set()
    assert isinstance(seen[-1], StepDone) and (seen[-1].image, seen[-1].step) == (2, 2)
    assert sum(isinstance(event, ImageReady) for event in seen) == 1


def test_skip_drops_one_batch_and_goes_on(sd):
    from pipelines.generation import generate

    family, parts = sd
    control, seeds = Control(), []
    request = make(Txt2Img, **{**BASE, "batch_count": 3})
    for event in generate.run(request, build(family, "txt2img", parts), FAMILIES[family], {}.get, control):
        if isinstance(event, StepDone) and (event.image, event.step) == (2, 1):
            control.skip.set()
        if isinstance(event, ImageReady):
            seeds.append(event.request.seed)
    assert seeds == [7, 9]


def test_no_torch_mode_is_held_across_a_yield(sd):
    import torch

    from pipelines.generation import generate

    family, parts = sd
    for _ in generate.run(make(Txt2Img, **BASE), build(family, "txt2img", parts), FAMILIES[family], {}.get):
        assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()


# More ways to steer

def test_a_variation_keeps_the_seed_and_moves_away_from_it(sd):
    plain = pictures(sd, make(Txt2Img, **BASE))[0]
    made = [event for event in events(sd, make(Txt2Img, **{
        **BASE, "variation_seed": 50, "variation_strength": 0.2, "batch_size": 2})) if isinstance(event, ImageReady)]
    assert [(event.request.seed, event.request.variation_seed) for event in made] == [(7, 50), (7, 51)]
    assert not same(made[0].image, plain) and not same(made[0].image, made[1].image)
    assert furthest(pictures(sd, made[1].request)[0], made[1].image) <= 1
    other = pictures(sd, make(Txt2Img, **{**BASE, "seed": 50}))[0]
    full = pictures(sd, make(Txt2Img, **{**BASE, "variation_seed": 50, "variation_strength": 1.0}))[0]
    assert furthest(full, other) <= 1


def test_tiling_makes_opposite_edges_fit_and_leaves_the_model_as_it_was(sd):
    plain = pictures(sd, make(Txt2Img, **BASE))[0]
    tiled = np.asarray(pictures(sd, make(Txt2Img, **{**BASE, "tiling": "x"}))[0], float)
    inside = np.abs(np.diff(tiled, axis=1)).mean()
    assert np.abs(tiled[:, 0] - tiled[:, -1]).mean() < 3 * inside
    assert same(pictures(sd, make(Txt2Img, **BASE))[0], plain)


def test_guidance_rescale_equals_the_stock_pipeline(sd):
    request = make(Txt2Img, **{**BASE, "guidance_rescale": 0.7, "sampler": "Euler"})
    theirs = stock(sd, "txt2img", request, width=64, height=64, guidance_rescale=0.7)[0]
    assert furthest(pictures(sd, request)[0], theirs) <= 1


@pytest.mark.parametrize(("window", "calls"), [((0, 1), 8), ((0, 0.5), 6), ((0.5, 1), 6), ((1, 1), 4)])
def test_guidance_acts_in_its_window_only_and_costs_nothing_outside(sd, window, calls):
    rows = []
    hook = sd[1]["unet"].register_forward_pre_hook(lambda module, args: rows.append(args[0].shape[0]))
    try:
        pictures(sd, make(Txt2Img, **{**BASE, "guidance_start": window[0], "guidance_end": window[1]}))
    finally:
        hook.remove()
    assert sum(rows) == calls


def test_eta_changes_ddim_only(sd):
    for sampler, changes in (("DDIM", True), ("DPM++ 2M", False)):
        plain, noisy = (pictures(sd, make(Txt2Img, **{**BASE, "sampler": sampler, "eta": eta}))[0]
                        for eta in (None, 1.0))
        assert same(plain, noisy) is not changes


@pytest.mark.parametrize("upscaler", ["Latent", "Latent (bicubic)", "Latent (nearest)", "Lanczos"])
def test_hires_fix_draws_a_second_time_at_the_larger_size(sd, upscaler):
    request = make(Txt2Img, **{**BASE, "hires_scale": 1.5, "hires_upscaler": upscaler, "hires_steps": 6,
                               "hires_strength": 0.5, "batch_size": 2})
    seen = events(sd, request)
    steps = [event.steps for event in seen if isinstance(event, StepDone)]
    assert steps == [4] * 4 + [3] * 3
    made = [event for event in seen if isinstance(event, ImageReady)]
    assert [event.image.size for event in made] == [(96, 96)] * 2
    assert furthest(pictures(sd, made[1].request)[0], made[1].image) <= 1


def test_hires_fix_takes_its_own_sampler_prompt_and_guidance(sd):
    plain = make(Txt2Img, **{**BASE, "hires_scale": 1.5})
    before = pictures(sd, plain)[0]
    for change in (dict(hires_sampler="Heun"), dict(hires_prompt="a house"), dict(hires_guidance_scale=9.0),
                   dict(hires_negative_prompt="blue")):
        assert not same(pictures(sd, make(Txt2Img, **{**plain.model_dump(), **change}))[0], before)


def test_tags_of_a_prompt_are_no_words_of_it_and_are_told_when_nothing_answers(sd):
    seen = events(sd, make(Txt2Img, **{**BASE, "prompt": BASE["prompt"] + " <lora:x:0.5>", "batch_count": 2}))
    assert [event.text for event in seen if isinstance(event, Notice)] == [
        "There are no LoRAs here, so x had no effect."]
    image = next(event for event in seen if isinstance(event, ImageReady))
    assert image.request.prompt.endswith("<lora:x:0.5>")
    assert same(image.image, pictures(sd, make(Txt2Img, **BASE))[0])


# Inpainting

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

    from pipelines.generation import sources
    from pipelines.generation.denoise import Guidance, denoise
    from pipelines.generation.noise import Draws
    from pipelines.prompts.embed import embed

    family, parts = sd
    pipe = build(family, "inpaint", parts)
    request = make(Inpaint, **{**BASE, "sampler": sampler, "image": "a", "mask": "m", "mask_blur": 0, "strength": 0.8})
    images = {"a": picture(), "m": disc((64, 64), (32, 32), 20)}
    source = sources.source_of(request, images.__getitem__)
    draws = Draws((torch.Generator().manual_seed(1),))
    scheduler = samplers.make(sampler, "Automatic", dict(parts["scheduler"].config), 4, "cpu")
    with torch.inference_mode():
        start = source.start(pipe, scheduler, draws)
    condition = embed(pipe, FAMILIES[family], "a cat", "")
    *_, last = denoise(pipe, FAMILIES[family], sampler, scheduler, start, condition, Guidance(5.0), draws.generators)
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


def test_mask_of_another_size_is_refused_with_both_sizes(sd):
    with pytest.raises(RequestError, match="32 x 32 px and the picture 64 x 64 px"):
        events(sd, make(Inpaint, **{**BASE, "image": "a", "mask": "m"}),
               {"a": picture(), "m": disc((32, 32), (5, 5), 3)}, task="inpaint")


# Memory and broken numbers: faults raised by hooks on the real modules

class FaultAt:
    """A forward hook that raises or returns NaN at chosen calls."""

    def __init__(self, module, calls, error=None):
        self.calls, self.error, self.count = calls, error, 0
        self.handle = module.register_forward_hook(self)

    def __call__(self, module, args, output):
        self.count += 1
        if self.count in self.calls:
            if self.error:
                raise self.error
            return output * float("nan") if hasattr(output, "mul") else (output[0] * float("nan"), *output[1:])
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.handle.remove()


def out_of_memory():
    import torch

    return torch.OutOfMemoryError("CUDA out of memory")


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
