"""What a picture's settings bring into another form, and what one click changes of them."""

from __future__ import annotations

import pytest

from pipelines import metadata
from pipelines.generation.samplers import SAMPLERS, check
from pipelines.requests import Img2Img, Txt2Img, Upscale, make
from ui.results import rerun
from ui.run import filled
from ui.tab import Form

CONCRETE = dict(prompt="a cat", seed=5, steps=10, sampler="Euler", schedule="Karras", guidance_scale=4.0, width=512,
                height=256, model="tiny")


def brought(cls, request):
    """Field -> value that the form of a request takes over from a picture's text."""
    names = [name for name in cls.model_fields if name not in ("model", "image", "mask")]
    form = Form("x", cls, None, {}, fields={name: name for name in names})
    return filled(form, metadata.parse(metadata.infotext(request)))


def test_the_strength_of_a_second_pass_is_not_that_of_another_task():
    hires = make(Txt2Img, **CONCRETE, hires_scale=2.0, hires_strength=0.7)
    assert brought(Txt2Img, hires)["hires_strength"] == 0.7
    assert "strength" not in brought(Img2Img, hires) and "strength" not in brought(Upscale, hires)
    assert brought(Img2Img, make(Img2Img, **CONCRETE, strength=0.4))["strength"] == 0.4


def test_the_size_of_a_picture_is_not_the_size_to_enlarge_it_to():
    taken = brought(Upscale, make(Txt2Img, **CONCRETE))
    assert taken["seed"] == 5 and not {"width", "height"} & set(taken)
    own = make(Upscale, **{**CONCRETE, "width": None, "height": None}, scale=3.0, strength=0.2)
    assert (brought(Upscale, own)["scale"], brought(Upscale, own)["strength"]) == (3.0, 0.2)


@pytest.mark.parametrize(("name", "said", "form", "changed"), [
    ("hires", {}, {}, {"hires_scale": 2.0}),
    ("hires", {}, {"hires_scale": 1.5, "hires_upscaler": "Lanczos"}, {"hires_scale": 1.5, "hires_upscaler": "Lanczos"}),
    ("hires", {"width": 2048}, {}, {"hires_scale": 2.0}), ("hires", {"width": 3000}, {}, {"hires_scale": 4096 / 3000}),
    ("seed", {"seed": 2**64 - 1}, {}, {"seed": 0}), ("steps", {"steps": 149}, {}, {"steps": 150}),
    ("sampler", {"sampler": "Euler a"}, {}, {"sampler": "Euler"}),
    ("variation", {}, {}, {"variation_strength": 0.15, "variation_seed": -1})])
def test_one_click_changes_one_thing_and_keeps_the_rest(name, said, form, changed):
    values = rerun.values(name, Txt2Img, {**CONCRETE, **said}, {"batch_count": 8, "seed": 99, **form})
    assert {key: values[key] for key in changed} == changed
    rest = {key: value for key, value in {**CONCRETE, **said}.items() if key not in changed}
    assert {key: values[key] for key in rest} == rest and values["batch_count"] == 1


def test_every_sampler_has_another_one_with_a_schedule_that_it_can_follow():
    seen = ["Euler"]
    for _ in SAMPLERS:
        other = rerun.values("sampler", Txt2Img, {**CONCRETE, "sampler": seen[-1]}, {})
        check(other["sampler"], other["schedule"])
        seen.append(other["sampler"])
    assert set(seen) == set(SAMPLERS)


def test_every_change_gives_a_request_that_can_be_asked_for():
    for cls in (Txt2Img, Img2Img, Upscale):
        said = metadata.parse(metadata.infotext(make(Txt2Img, **CONCRETE))).for_task(cls)
        for name, each in rerun.CHANGES.items():
            if each.only in (None, cls):
                assert make(cls, **rerun.values(name, cls, said, {"image": "x", "width": 64}))
