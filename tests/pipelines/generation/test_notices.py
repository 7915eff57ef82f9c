"""What is told of a request before it is drawn."""

from __future__ import annotations

import pytest

from pipelines.families import FAMILIES
from pipelines.generation.notices import MAX_PIECES, unlike_asked
from pipelines.requests import Img2Img, Inpaint, Txt2Img, Upscale, make

TOLD = "{}: {} of {} steps is less than one step, so one step was made."


@pytest.mark.parametrize(("cls", "values", "told"), [
    (Img2Img, {"strength": 0.04}, [TOLD.format("Strength", "0.04", 20)]), (Img2Img, {"strength": 0.05}, []),
    (Inpaint, {"strength": 0.01}, [TOLD.format("Strength", "0.01", 20)]), (Inpaint, {}, []),
    (Upscale, {"strength": 0.02}, [TOLD.format("Strength", "0.02", 20)]),
    (Upscale, {"strength": 0.02, "redraw": False}, []), (Img2Img, {"strength": 0.1, "steps": 10}, []),
    (Txt2Img, {"hires_strength": 0.01}, []), (Txt2Img, {"hires_strength": 0.06, "hires_scale": 2.0}, []),
    (Txt2Img, {"hires_strength": 0.04, "hires_scale": 2.0}, [TOLD.format("Hires strength", "0.04", 20)]),
    (Txt2Img, {"hires_strength": 0.06, "hires_scale": 2.0, "hires_steps": 10},
     [TOLD.format("Hires strength", "0.06", 10)])])
def test_a_strength_that_leaves_less_than_a_step_is_told(cls, values, told):
    assert list(unlike_asked(make(cls, **{"steps": 20, **values}), FAMILIES["sd15"])) == told


def test_a_strength_that_a_family_does_not_read_is_not_told():
    request = make(Img2Img, steps=20, strength=0.01)
    assert len(unlike_asked(request, FAMILIES["flux"])) == 1 and not unlike_asked(request, FAMILIES["flux_kontext"])


def test_wildcards_and_choices_that_were_not_read_are_told_in_every_prompt_that_is():
    values = dict(prompt="__none__ {a|b}", negative_prompt="${x}", hires_prompt="{c|d}")
    told = unlike_asked(make(Txt2Img, **values), FAMILIES["sd15"])
    assert [line.partition(" was drawn as typed: ")[0] for line in told] == ["__none__", "{a|b}", "${x}"]
    assert len(unlike_asked(make(Txt2Img, **values, hires_scale=2.0, steps=20), FAMILIES["sd15"])) == 4
    assert not unlike_asked(make(Txt2Img, prompt="{{a}} [b|c] (d:1.2) <lora:my__ink__v1:1>"), FAMILIES["sd15"])
    many = make(Txt2Img, prompt=" ".join(f"{{a|{'b' * n}}}" for n in range(1, 60)))
    assert len(unlike_asked(many, FAMILIES["sd15"])) == MAX_PIECES
    assert max(map(len, unlike_asked(many, FAMILIES["sd15"]))) < 200
