"""The denoise loop against the stock pipelines, and its promises: seeds, stop, every setting."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from pipelines.errors import Cancelled, RequestError
from pipelines.events import ImageReady, Notice, StepDone
from pipelines.families import FAMILIES
from pipelines.generation import samplers
from pipelines.metadata import infotext, parse
from pipelines.models.cache import build
from pipelines.queue.control import Control
from pipelines.requests import HIRES_UPSCALERS, Img2Img, Txt2Img, changed, make

from .draw import BASE, components, events, furthest, picture, pictures, same, stock

pytestmark = pytest.mark.usefixtures("no_previews")


# Against the stock pipelines

# One of each kind: one call a step or several, with noise of generators and of a path, with levels of its own.
KINDS = ["Euler", "Euler a", "DPM++ 2M", "DPM++ SDE", "Heun", "UniPC", "DDIM", "PLMS", "LMS", "Restart", "seeds_3"]


@pytest.mark.parametrize("sampler", KINDS)
def test_text_to_image_equals_the_stock_pipeline(sd, sampler):
    request = make(Txt2Img, **{**BASE, "sampler": sampler})
    assert same(pictures(sd, request)[0], stock(sd, "txt2img", request, width=64, height=64)[0])


@pytest.mark.parametrize("sampler", [name for name in KINDS if name != "PLMS"])  # which begins anew at a late start
def test_image_to_image_equals_the_stock_pipeline(sd, sampler):
    source = picture()
    request = make(Img2Img, **{**BASE, "sampler": sampler, "image": "a", "strength": 0.6, "steps": 5})
    ours = pictures(sd, request, {"a": source}, task="img2img")[0]
    assert same(ours, stock(sd, "img2img", request, image=source, strength=0.6)[0])


@pytest.mark.parametrize(("sampler", "schedule"), [
    ("Euler a", "Automatic"), ("DPM++ 2M", "Karras"), ("DPM++ SDE", "Automatic"), ("Heun", "Uniform"), ("DDIM", "DDIM"),
    ("PLMS", "Automatic"), ("LCM", "Automatic")])
def test_pictures_of_the_earlier_version_come_out_as_they_were(sd, sampler, schedule):
    """Its schedulers were the library's; a text that names the version asks for them."""
    text = infotext(make(Txt2Img, **{**BASE, "sampler": sampler, "schedule": schedule}), version="Atelier 0.1.0")
    request = make(Txt2Img, **{**BASE, **parse(text).fields})
    assert request.schedule == f"{schedule} (0.1.0)"
    assert same(pictures(sd, request)[0], stock(sd, "txt2img", request, width=64, height=64)[0])
    assert parse(infotext(request)).fields["schedule"] == request.schedule
    late = make(Img2Img, **{**BASE, "sampler": sampler, "schedule": request.schedule, "image": "a", "strength": 0.6,
                            "steps": 5})
    if sampler != "PLMS":  # whose late start is mended there too
        ours = pictures(sd, late, {"a": picture()}, task="img2img")[0]
        assert same(ours, stock(sd, "img2img", late, image=picture(), strength=0.6)[0])


def test_lms_begins_without_a_past_where_an_image_to_image_run_begins(sd):
    """Its first step is one of Euler's."""
    request = make(Img2Img, **{**BASE, "sampler": "LMS", "image": "a", "strength": 0.2, "steps": 5})
    lms, euler = (pictures(sd, changed(request, sampler=name), {"a": picture()}, task="img2img")[0]
                  for name in ("LMS", "Euler"))
    assert furthest(lms, euler) <= 1


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


@pytest.mark.parametrize(("name", "plain"), [("euler_cfg_pp", "Euler"), ("DDIM CFG++", "DDIM"),
                                             ("dpmpp_2m_cfg_pp", "DPM++ 2M")])
def test_cfg_pp_walks_along_the_noise_without_the_prompt(sd, name, plain):
    schedule = "Karras" if plain == "DPM++ 2M" else "Automatic"
    request = make(Txt2Img, **{**BASE, "sampler": name, "guidance_scale": 1.5, "schedule": schedule})
    other = changed(request, sampler=plain)
    assert not same(pictures(sd, request)[0], pictures(sd, other)[0])
    alike = [changed(one, negative_prompt=one.prompt) for one in (request, other)]  # nothing to be guided away from
    assert furthest(*(pictures(sd, one)[0] for one in alike)) <= 1


def test_a_sampler_that_takes_as_many_calls_as_it_needs_counts_them_to_the_end(sd):
    seen = [event for event in events(sd, make(Txt2Img, **{**BASE, "sampler": "DPM adaptive"}))
            if isinstance(event, StepDone)]
    assert [event.step for event in seen] == list(range(1, len(seen) + 1))
    assert all(event.step < event.steps for event in seen[:-1]) and seen[-1].step == seen[-1].steps


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


@pytest.mark.parametrize("step", [1, BASE["steps"]])  # after the last step the picture is being decoded
def test_skip_drops_the_batch_being_made_and_goes_on(sd, step):
    from pipelines.generation import generate

    family, parts = sd
    control, seeds = Control(), []
    request = make(Txt2Img, **{**BASE, "batch_count": 3})
    for event in generate.run(request, build(family, "txt2img", parts), FAMILIES[family], {}.get, control):
        if isinstance(event, StepDone) and (event.image, event.step) == (2, step):
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


def test_churn_changes_those_that_know_it_and_its_noise_can_be_made_stronger(sd):
    def drawn(sampler, **values):
        return pictures(sd, make(Txt2Img, **{**BASE, "sampler": sampler, **values}))[0]

    for sampler, changes in (("Euler", True), ("Heun", True), ("DPM++ 2M", False)):
        assert same(drawn(sampler), drawn(sampler, s_churn=20.0)) is not changes
    assert not same(drawn("Euler", s_churn=20.0), drawn("Euler", s_churn=20.0, s_noise=1.05))


def test_each_way_to_enlarge_the_first_picture_gives_a_second_one_of_its_own(sd):
    made = [pictures(sd, make(Txt2Img, **{**BASE, "hires_scale": 1.5, "hires_upscaler": upscaler,
                                          "hires_strength": 0.5}))[0] for upscaler in HIRES_UPSCALERS]
    assert not any(same(one, other) for one, other in combinations(made, 2))


@pytest.mark.parametrize("upscaler", ["Latent", "Latent (bicubic)", "Latent (nearest)", "Lanczos"])
def test_hires_fix_draws_a_second_time_at_the_larger_size(sd, upscaler):
    request = make(Txt2Img, **{**BASE, "hires_scale": 1.5, "hires_upscaler": upscaler, "hires_steps": 6,
                               "hires_strength": 0.5, "batch_size": 2})
    seen = events(sd, request)
    steps = [event for event in seen if isinstance(event, StepDone)]
    assert [(event.step, event.steps) for event in steps] == [(number, 7) for number in range(1, 8)]
    assert steps[3].seconds_left > 0 and steps[6].seconds_left == 0  # the second pass is still to come
    made = [event for event in seen if isinstance(event, ImageReady)]
    assert [event.image.size for event in made] == [(96, 96)] * 2
    assert furthest(pictures(sd, made[1].request)[0], made[1].image) <= 1


@pytest.mark.parametrize("sampler", ["Heun", "DPM2 a", "PLMS"])
def test_progress_of_both_passes_counts_the_model_calls_of_their_samplers(sd, sampler):
    request = make(Txt2Img, **{**BASE, "sampler": sampler, "hires_scale": 1.5, "hires_strength": 0.5})
    steps = [event for event in events(sd, request) if isinstance(event, StepDone)]
    whole = samplers.calls(sampler, 4) + samplers.calls(sampler, 2)
    assert [(event.step, event.steps) for event in steps] == [(number, whole) for number in range(1, whole + 1)]
    assert steps[-1].seconds_left == 0


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
