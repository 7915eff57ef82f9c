import json
import math

import pytest
from pydantic import ValidationError

from pipelines.errors import RequestError
from pipelines.requests import MAX_PROMPT, MAX_SEED, TASKS, Img2Img, Inpaint, Txt2Img, changed, extra_of, make, task_of
from pipelines.requests.param import Extra

NUMBERS = {name: info for name, info in Inpaint.model_fields.items() if "int" in str(info.annotation)
           or "float" in str(info.annotation)}
FIELDS = [(cls, name) for cls in TASKS.values() for name in cls.model_fields]


def refused(cls=Txt2Img, **values) -> RequestError:
    with pytest.raises(RequestError) as caught:
        make(cls, **values)
    return caught.value


def bounds(info) -> dict[str, float]:
    kinds = ("ge", "gt", "le")
    return {kind: getattr(entry, kind) for entry in info.metadata for kind in kinds if hasattr(entry, kind)}


def test_the_prompt_alone_is_enough():
    for name, cls in TASKS.items():
        request = make(cls, prompt="a red apple")
        assert task_of(request) == name and request.prompt == "a red apple" and request.image_count == 1


def test_what_the_model_decides_is_left_open():
    request = Txt2Img()
    assert (request.sampler, request.schedule, request.steps, request.guidance_scale) == (None,) * 4
    assert (request.width, request.height, request.model) == (None,) * 3


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_both_bounds_and_keeps_them(name):
    info = NUMBERS[name]
    limits = bounds(info)
    assert "le" in limits and {"ge", "gt"} & set(limits), "a number without bounds"
    assert getattr(make(Inpaint, **{name: limits["le"]}), name) == limits["le"]
    beyond = limits["le"] + 8
    assert refused(Inpaint, **{name: beyond}).field == name
    below = limits["gt"] if "gt" in limits else limits["ge"] - 8
    error = refused(Inpaint, **{name: below})
    assert error.field == name and info.title in str(error) and str(below) in str(error)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["12", "", True, math.nan, math.inf, -math.inf, 1e308, [12], {"a": 1}, b"12"])
def test_what_is_no_number_is_refused_by_name(name, value):
    if value == "12" and "seed" in name:
        value = "twelve"  # a seed may be text, for a browser's numbers lose digits
    error = refused(Inpaint, **{name: value})
    assert error.field == name and str(error).startswith(f"{NUMBERS[name].title}: ")


@pytest.mark.parametrize("name", [name for name, info in NUMBERS.items() if "int" in str(info.annotation)])
def test_whole_floats_are_integers_and_others_are_refused(name):
    whole = getattr(make(Inpaint, **{name: 64.0}) if name not in ("batch_size", "batch_count", "clip_skip")
                    else make(Inpaint, **{name: 8.0}), name)
    assert whole in (64, 8) and type(whole) is int
    assert refused(Inpaint, **{name: 2.7}).field == name


def test_a_whole_number_is_a_fine_guidance_scale_and_strength():
    assert make(Img2Img, guidance_scale=7, strength=1).strength == 1.0


@pytest.mark.parametrize(("name", "value"), [
    ("seed", None), ("batch_size", None), ("clip_skip", None), ("strength", None), ("mask_blur", None),
    ("prompt", None), ("negative_prompt", None), ("mask_invert", None), ("mask_invert", 1), ("mask_invert", "true"),
    ("prompt", 5), ("prompt", ["a"]), ("sampler", 3), ("model", True), ("resize_mode", "zoom"),
    ("inpaint_area", "whole picture"), ("masked_content", None), ("image", None)])
def test_values_of_the_wrong_kind_are_refused_by_name(name, value):
    assert refused(Inpaint, **{name: value}).field == name


@pytest.mark.parametrize("size", [0, -64, 60, 100, 513, 2056, 20_000])
def test_sizes_outside_the_grid_are_refused(size):
    assert "Width (px)" in str(refused(width=size)) and refused(height=size).field == "height"


def test_the_message_names_field_value_and_limit():
    assert str(refused(width=100)) == "Width (px): 100 is not possible. Input should be a multiple of 8."
    assert str(refused(steps=151)) == "Steps: 151 is not possible. Input should be less than or equal to 150."


def test_a_seed_may_be_random_or_any_64_bit_number_also_as_text():
    assert [make(Txt2Img, seed=seed).seed for seed in (-1, 0, MAX_SEED)] == [-1, 0, 18446744073709551615]
    assert [make(Txt2Img, seed=seed).seed for seed in ("-1", " 7 ", "7.0", "18446744073709551615")] == [
        -1, 7, 7, MAX_SEED]
    assert make(Txt2Img, **make(Txt2Img, variation_seed=MAX_SEED).model_dump(mode="json")).variation_seed == MAX_SEED
    assert refused(seed="a7").field == refused(seed="").field == refused(seed="18446744073709551616").field == "seed"
    assert refused(seed=MAX_SEED + 1).field == refused(seed=-2).field == "seed"


def test_strength_zero_is_refused_by_name():
    for cls in (Img2Img, Inpaint):
        assert str(refused(cls, strength=0)).startswith("Strength: 0 is not possible.")


def test_an_unknown_parameter_is_named():
    assert str(refused(stepz=3)) == "stepz: there is no such parameter."
    assert refused(stepz=3).field == "stepz"
    assert "strength: there is no such parameter" in str(refused(Txt2Img, strength=0.5))
    assert len(str(refused(**{"x" * 10_000: 1}))) < 100


def test_prompts_up_to_the_limit_are_kept_as_they_are():
    text = "👩‍🎨 שלום 猫\n" * 300
    assert make(Txt2Img, prompt=text).prompt == text
    assert make(Txt2Img, prompt="x" * MAX_PROMPT)
    error = refused(prompt="x" * (MAX_PROMPT + 1))
    assert error.field == "prompt" and "4000" in str(error)


@pytest.mark.parametrize("value", ["9" * 100_000, list(range(50_000)), 10**4000])
def test_long_values_are_cut_in_messages(value):
    assert len(str(refused(steps=value))) < 200


def test_deeply_nested_values_are_refused_like_any_other():
    assert refused(steps=json.loads("[" * 900 + "]" * 900)).field == "steps"


def test_messages_carry_no_path_and_no_web_address():
    for error in (refused(steps="x"), refused(nope=1), refused(Inpaint, resize_mode="zoom")):
        assert "/" not in str(error) and "pydantic" not in str(error)


@pytest.mark.parametrize(("size", "scale", "final"), [
    ((832, 1216), 1.4, (1160, 1696)), ((512, 768), 2.0, (1024, 1536)), ((512, 512), 1.1, (560, 560)),
    ((800, 600), 1.15, (912, 688)), ((64, 64), 1.0, (64, 64))])
def test_the_second_pass_has_the_size_that_automatic1111_gives_it(size, scale, final):
    assert make(Txt2Img, width=size[0], height=size[1], hires_scale=scale).final_size == final


def test_changed_gives_a_checked_copy():
    request = make(Txt2Img, prompt="a", seed=5)
    assert changed(request, seed=6) == make(Txt2Img, prompt="a", seed=6)
    assert request.seed == 5
    with pytest.raises(RequestError, match="Seed"):
        changed(request, seed=2.5)
    with pytest.raises(RequestError, match="no such parameter"):
        changed(request, sead=2)


def test_a_request_cannot_be_changed_in_place():
    request = make(Txt2Img)
    with pytest.raises(ValidationError, match="frozen"):
        request.steps = 5


def test_several_prompts_are_the_lines_that_say_something():
    lines = "a red apple\n\n   a green leaf  \r\n\t\n"
    assert make(Txt2Img, prompt=lines).prompts == (lines,)
    request = make(Txt2Img, prompt=lines, prompt_lines=True, batch_size=2, batch_count=3)
    assert request.prompts == ("a red apple", "a green leaf") and request.image_count == 12
    assert make(Txt2Img, prompt=" \n ", prompt_lines=True).prompts == ("",)


@pytest.mark.parametrize(("cls", "name"), FIELDS)
def test_every_field_has_a_label_and_a_sentence_of_help(cls, name):
    info = cls.model_fields[name]
    assert info.title and info.description.endswith(".")
    assert set(extra_of(info)) == set(Extra.__annotations__)


@pytest.mark.parametrize("cls", TASKS.values())
@pytest.mark.parametrize("kind", ["infotext", "a1111"])
def test_names_for_others_are_unique_within_a_task(cls, kind):
    names = [extra_of(info)[kind] for info in cls.model_fields.values() if extra_of(info)[kind]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("cls", TASKS.values())
def test_labels_are_unique_within_a_task(cls):
    labels = [info.title for info in cls.model_fields.values()]
    assert len(labels) == len(set(labels))


def test_a_request_survives_json():
    request = make(Inpaint, prompt='"quoted"\n', strength=0.3, mask_invert=True, masked_content="fill")
    assert make(Inpaint, **json.loads(request.model_dump_json())) == request
