"""What a declaration says of a field, and what is asked of all of them."""

from __future__ import annotations

import pytest

from pipelines.errors import RequestError
from pipelines.families import FAMILIES
from pipelines.requests import (
    TASKS,
    Img2Img,
    Inpaint,
    Request,
    Txt2Img,
    a1111_fields,
    extra_of,
    fields_of,
    make,
    open_seeds,
)

EVERY = [(cls, name) for cls in TASKS.values() for name in cls.model_fields]


def test_fields_are_found_by_what_their_declaration_says():
    assert fields_of(Inpaint, kind="picture") == ("image",) and fields_of(Inpaint, kind="mask") == ("mask",)
    assert fields_of(Txt2Img, kind="picture") == ()
    assert fields_of(Txt2Img, kind="prompt") == ("prompt", "negative_prompt", "hires_prompt", "hires_negative_prompt")
    assert fields_of(Txt2Img, kind="sampler", may_be_empty=True) == ("hires_sampler",)
    assert fields_of(Request, by_model=True) == ("sampler", "schedule", "steps", "guidance_scale", "width", "height")


@pytest.mark.parametrize(("cls", "name"), EVERY)
def test_what_a_declaration_says_agrees_with_the_field(cls, name):
    info = cls.model_fields[name]
    extra = extra_of(info)
    kept_text = info.annotation in (str, str | None)
    assert extra["kind"] in ("value", "seed", "resolved") or kept_text
    assert extra["depends_on"] is None or extra["depends_on"] in cls.model_fields
    assert not extra["may_be_empty"] or info.default is None
    assert extra["has_neutral"] or info.default
    assert (info.default == -1) == (extra["kind"] == "seed")
    assert not extra["words"] or len(set(extra["words"].values())) == len(extra["words"])


@pytest.mark.parametrize("task", TASKS)
def test_our_own_loop_provides_what_any_field_needs_and_other_families_say_what_they_lack(task):
    needs = {extra_of(info)["needs"] for info in TASKS[task].model_fields.values()} - {None}
    assert needs <= FAMILIES["sd15"].provides(task)
    assert not {"own_loop", "negative_prompt"} & FAMILIES["flux"].provides(task)


def test_a_seed_is_drawn_where_it_is_open_and_has_an_effect():
    assert open_seeds(Txt2Img()) == ("seed",)
    assert open_seeds(Txt2Img(variation_strength=0.1)) == ("seed", "variation_seed")
    assert open_seeds(Txt2Img(seed=3, variation_strength=0.1)) == ("variation_seed",)
    assert open_seeds(Txt2Img(seed=3, variation_seed=4, variation_strength=0.1)) == ()


def test_a_field_is_known_by_its_name_in_the_http_api_of_automatic1111():
    assert a1111_fields(Img2Img)["denoising_strength"] == "strength"
    assert a1111_fields(Txt2Img)["denoising_strength"] == "hires_strength"
    with pytest.raises(RequestError, match="cfg_scale: there is no such parameter. Here it is guidance_scale."):
        make(Txt2Img, cfg_scale=7.0)
    with pytest.raises(RequestError, match=r"guidance: there is no such parameter\.$"):
        make(Txt2Img, guidance=7.0)
