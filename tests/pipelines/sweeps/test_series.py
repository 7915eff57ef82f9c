"""Prompts from a file and uploaded pictures as one job: reading, counting, going on after a stop."""

from __future__ import annotations

import pytest
from PIL import Image

from pipelines import metadata
from pipelines.errors import RequestError
from pipelines.events import Notice, Saved
from pipelines.requests import Img2Img, Txt2Img, changed, make
from pipelines.requests.caller import Caller
from pipelines.studio.works import DrawSeries
from pipelines.sweeps.series import prompts_in, unused_in, vary

VALUES = dict(prompt="form", steps=2, width=64, height=64, seed=5, sampler="Euler", schedule="Automatic",
              guidance_scale=4.0)
BASE = make(Txt2Img, **VALUES)


@pytest.mark.parametrize(("text", "found"), [
    ("a cat\n\r\n# a remark\n  a dog  \n", [{"prompt": "a cat"}, {"prompt": "a dog"}]),
    ("", []), ("one\ntwo", [{"prompt": "one"}, {"prompt": "two"}]),
    ("a cat\non a mat\n\na dog\nNegative prompt: blue", [{"prompt": "a cat\non a mat"},
                                                        {"prompt": "a dog", "negative_prompt": "blue"}])])
def test_prompts_stand_one_a_line_or_one_a_block(text, found):
    assert prompts_in(text, Txt2Img) == found


def test_a_block_may_be_the_text_of_a_picture():
    values, = prompts_in("a cat\nNegative prompt: blue\nSteps: 3, Sampler: Euler, CFG scale: 2, Seed: 9, Size: 64x72, "
                         "Model: other", Txt2Img)
    assert values["steps"] == 3 and values["seed"] == 9 and values["height"] == 72 and "model" not in values


@pytest.mark.parametrize("words", [
    "Subject: a red apple, Style: noto, Size: huge", "a cat\nSteps: many, Size: 64x64, Seed: 5",
    "Model: a toy, Sampler: a cook, Steps: 12 of them"])
def test_words_with_colons_are_a_prompt_unless_their_line_begins_with_a_number_of_steps(words):
    assert prompts_in(words.replace("\n", " "), Txt2Img) == [{"prompt": words.replace("\n", " ")}]
    assert prompts_in(f"{words}\n\na dog\nNegative prompt: blur, Size: 3x4", Txt2Img) == [
        {"prompt": words}, {"prompt": "a dog", "negative_prompt": "blur, Size: 3x4"}]


def test_settings_of_a_block_that_are_not_used_are_told():
    text = "a cat\nSteps: 3, Sampler: Euler, Size: 64x72, Model: other, Lights: on, Mask blur: 7\n\na dog"
    assert unused_in(text, Txt2Img) == ("Not used: Model other", "Not used: Mask blur (px) 7", "Not used: Lights on")
    assert prompts_in(text, Txt2Img)[1] == {"prompt": "a dog"} and not unused_in("a\n\nb", Txt2Img)


def test_ten_megabytes_of_prompts_are_refused_in_words():
    with pytest.raises(RequestError, match="the limit is 400,000"):
        prompts_in("x\n" * 5_000_000, Txt2Img)


def test_seeds_count_up_over_prompts_and_pictures_of_an_upload_share_theirs():
    base = make(Img2Img, **VALUES, batch_count=2)
    made = list(vary(base, [{"prompt": "a", "seed": -1}, {"prompt": "b", "seed": 100}], ["x", "y"]))
    assert [(one.image, one.prompt, one.seed) for one in made] == [
        (picture, prompt, seed) for picture in "xy" for prompt, seed in (("a", 5), ("a", 6), ("b", 100), ("b", 101))]
    assert {(one.width, one.image_count) for one in made} == {(None, 1)}


def test_a_block_of_several_lines_is_one_prompt_whatever_the_form_says_of_lines():
    made, = vary(changed(BASE, prompt_lines=True), [{"prompt": "a cat\non a mat"}], [])
    assert made.prompts == ("a cat\non a mat",)


def test_each_prompt_of_a_file_becomes_a_saved_picture_with_its_own_choices(studio):
    base = make(Txt2Img, **VALUES, dynamic="random")
    records = studio.submit(DrawSeries(base, [{"prompt": "a {red|blue} cat"}, {"prompt": "a house"}])).wait(300).records
    said = [metadata.parse(record.infotext).fields for record in records]
    assert said[0]["prompt"] in ("a red cat", "a blue cat") and said[1]["prompt"] == "a house"
    assert [one["seed"] for one in said] == [5, 6]


def test_uploaded_pictures_keep_their_shapes_and_none_is_taken_for_another(studio):
    ids = [studio.images.add(Image.new("RGB", size, colour)).id
           for size, colour in (((64, 128), "red"), ((64, 128), "blue"), ((128, 64), "red"))]
    base = make(Img2Img, **VALUES)
    records = studio.submit(DrawSeries(base, pictures=ids)).wait(300).records
    assert [record.width < record.height for record in records] == [True, True, False]
    assert len({record.infotext for record in records}) == 3  # the text names the picture it was made of
    red, blue = (Image.open(record.path).tobytes() for record in records[:2])
    assert red != blue


@pytest.mark.parametrize("values", [{"seed": -1}, {"seed": -1, "variation_strength": 0.3}])
def test_a_stopped_series_goes_on_where_it_was(studio, values):
    asked = [{"prompt": prompt} for prompt in ("one", "two", "three")]
    base = changed(BASE, **values)
    job = studio.submit(DrawSeries(base, asked), Caller(page="p", owner="o"))
    for event in job.follow():
        if isinstance(event, Saved):
            job.stop()
    kept = job.wait(300).records
    assert len(kept) in (1, 2)  # the worker may be a picture ahead of the one that stops it
    rest = studio.submit(DrawSeries(base, asked), Caller(page="p", owner="o")).wait(300).records
    assert [record.path for record in rest[:len(kept)]] == [record.path for record in kept]
    assert len(rest) == 3
    anew = studio.submit(DrawSeries(base, asked), Caller(page="p", owner="o")).wait(300).records
    assert anew[0].path != rest[0].path  # it had come to its end


def test_a_series_ends_after_the_picture_being_made_when_its_page_is_away(studio):
    job = studio.submit(DrawSeries(BASE, [{"prompt": prompt} for prompt in ("one", "two", "three")]), Caller(page="p"))
    job.control.leave.set()
    ended = job.wait(300)
    assert ended.stopped and len(ended.records) <= 1
    assert not any("left out" in event.text for event in job.events if isinstance(event, Notice))


def test_a_contact_sheet_is_not_taken_for_one_of_its_pictures(studio):
    first, *_, sheet = studio.submit(changed(BASE, batch_size=2), Caller(owner="o")).wait(300).records
    assert sheet.is_grid and sheet.infotext == first.infotext
    studio.results.delete(first.id, "o")
    record, = studio.submit(DrawSeries(BASE), Caller(owner="o")).wait(300).records
    assert not record.is_grid


def test_too_many_pictures_are_refused_before_the_first(studio):
    with pytest.raises(RequestError, match="1,000 pictures are too many"):
        studio.submit(DrawSeries(BASE, [{"prompt": "a"}] * 1000))


def test_the_time_is_forecast_from_the_last_picture_by_steps_and_pixels(studio):
    assert studio.forecast([BASE]) is None
    record = studio.submit(BASE).wait(300).records[0]
    twice = changed(BASE, steps=4)
    assert studio.forecast([BASE, twice]) == pytest.approx(3 * record.seconds)
