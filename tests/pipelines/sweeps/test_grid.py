"""X/Y/Z grids: what an axis text means, which cells there are, in which order, and what is refused."""

from __future__ import annotations

from time import thread_time

import pytest
from PIL import Image

from pipelines.errors import RequestError
from pipelines.events import Notice, Saved, StepDone
from pipelines.queue.child import counted
from pipelines.requests import TASKS, Img2Img, Txt2Img, changed, extra_of, make
from pipelines.requests.caller import Caller
from pipelines.settings import load
from pipelines.studio.studio import Studio
from pipelines.sweeps.grid import LORA, PROMPT, Axis, Matrix, axis, check

BASE = make(Txt2Img, prompt="a red cat", steps=2, width=64, height=64, seed=5, sampler="Euler", schedule="Automatic",
            guidance_scale=4.0, batch_size=3)


@pytest.mark.parametrize(("field", "text", "values"), [
    ("steps", "1, 2, 5", (1, 2, 5)), ("steps", "1-5", (1, 2, 3, 4, 5)), ("steps", "10-1 (+3)", (10, 7, 4, 1)),
    ("guidance_scale", "0-1 [5]", (0.0, 0.25, 0.5, 0.75, 1.0)),
    ("guidance_scale", "1-2 (0.5), 9", (1.0, 1.5, 2.0, 9.0)),
    ("seed", "3,3,4", (3, 3, 4)), ("seed", "-1, -1, -1", (-1, -1, -1)), ("steps", "1-2 [4], 7", (1, 2, 7)),
    ("sampler", 'Euler, "DPM++ 2M"', ("Euler", "DPM++ 2M")),
    (PROMPT, 'red, "blue, deep", green', ("red", "blue, deep", "green")), ("prompt", "a\nb", ("a", "b")),
    (PROMPT, 'red, ""', ("red", "")), (PROMPT, "red,", ("red", "")), (PROMPT, "red,\n\nblue", ("red", "blue")),
    ("negative_prompt", '"", blur', ("", "blur")), ("vae", ", my.vae", ("", "my.vae")),
    ("sampler", "Euler, ", ("Euler",)), ("hires_sampler", '"", Euler', ("", "Euler")),
    ("tiling", "off, x", ("off", "x"))])
def test_axis_texts_are_read_as_people_write_them(field, text, values):
    assert axis(field, text, Txt2Img).values == values


@pytest.mark.parametrize(("field", "text", "message"), [
    ("steps", "", "there are no values"), ("steps", "one", "'one' is no number"), ("steps", "1-10000", "too many"),
    ("steps", "0-1 [99999]", "too many"), ("nonsense", "1", "cannot be one"), ("batch_size", "1,2", "cannot be one"),
    ("strength", "0.1", "cannot be one"), ("prompt", "x" * 9000, "the limit is 8,000"),
    ("steps", "1-2 (0)", "no number"), (PROMPT, '"", red', "cannot be empty"), ("prompt", " ", "no values"),
    ("steps", "nan", "no number"), ("guidance_scale", "1, inf", "no number"),
    ("seed", "9" * 5000, "no number")])
def test_bad_axes_are_refused_in_words(field, text, message):
    with pytest.raises(RequestError, match=message):
        axis(field, text, Txt2Img)


def test_a_seed_of_64_bits_is_whole_on_an_axis():
    assert axis("seed", "18446744073709551615, 18446744073709551612-18446744073709551613", Txt2Img).values == (
        2**64 - 1, 2**64 - 4, 2**64 - 3)


def test_no_field_is_no_axis():
    assert axis("", "1,2", Txt2Img) is None


def test_every_combination_is_a_cell_and_each_is_a_single_picture():
    matrix = Matrix(BASE, axis("steps", "1-3", Txt2Img), axis("seed", "7, 8", Txt2Img))
    cells = dict(matrix.cells())
    assert len(cells) == len(matrix) == 6
    assert (cells[2, 1, 0].steps, cells[2, 1, 0].seed, cells[2, 1, 0].image_count) == (3, 8, 1)


def test_minus_one_on_an_axis_of_seeds_is_another_seed_at_each_place_and_the_same_when_it_goes_on():
    typed = Matrix(BASE, axis("steps", "1, 1", Txt2Img), axis("seed", "-1, 9, -1", Txt2Img))
    drawn = typed.seeded()
    first, second, third = drawn.y.values
    assert second == 9 and min(first, third) >= 0 and first != third
    assert typed.seeded(drawn) == drawn and drawn.seeded() == drawn and typed.seeded() != drawn
    assert Matrix(BASE, typed.x, axis("seed", "-1, 8, -1", Txt2Img)).seeded(drawn).y.values[0] != first


def test_the_dearest_axis_changes_least_often():
    matrix = Matrix(BASE, Axis("seed", (1, 2)), Axis("model", ("a", "b")), Axis(PROMPT, ("red", "blue")))
    models = [request.model for _, request in matrix.cells()]
    prompts = [request.prompt for _, request in matrix.cells()]
    assert models == ["a"] * 4 + ["b"] * 4
    assert prompts[:4] == ["a red cat"] * 2 + ["a blue cat"] * 2


def test_size_and_prompt_text_replace_what_they_name():
    cells = [request for _, request in Matrix(BASE, Axis("size", ("64x72",)), Axis(PROMPT, ("cat", "dog"))).cells()]
    assert [(one.width, one.height, one.prompt) for one in cells] == [(64, 72, "a red cat"), (64, 72, "a red dog")]


@pytest.mark.parametrize(("prompt", "x", "y", "prompts"), [
    ("a red cat on a blue mat", ("red", "blue"), ("blue", "green"),
     ["a red cat on a blue mat", "a blue cat on a blue mat", "a red cat on a green mat", "a blue cat on a green mat"]),
    ("a red cat", ("red cat", "old cat"), ("cat", "dog"), ["a red cat", "a old cat", "a red dog", "a old dog"]),
    ("a red cat", ("red ", ""), ("cat", "dog"), ["a red cat", "a cat", "a red dog", "a dog"])])
def test_two_axes_of_prompt_text_do_not_find_what_the_other_put(prompt, x, y, prompts):
    matrix = Matrix(changed(BASE, prompt=prompt), Axis(PROMPT, x), Axis(PROMPT, y))
    check(matrix)
    cells = dict(matrix.cells())
    assert [cells[column, row, 0].prompt for row in (0, 1) for column in (0, 1)] == prompts


def test_prompt_text_is_replaced_in_every_prompt_and_after_what_other_axes_set():
    base = changed(BASE, prompt="a dog", negative_prompt="red", hires_scale=2.0, hires_prompt="a red dog, sharp")
    matrix = Matrix(base, Axis(PROMPT, ("red", "blue")), Axis("prompt", ("red", "a red cat")))
    cells = [cell for _, cell in matrix.cells()]
    assert [cell.prompt for cell in cells] == ["red", "a red cat", "blue", "a blue cat"]
    assert [(cell.negative_prompt, cell.hires_prompt) for cell in cells[2:]] == [("blue", "a blue dog, sharp")] * 2


def test_an_empty_value_has_a_label():
    assert Axis(PROMPT, ("red", "")).label("") == "(empty)"
    assert Axis("vae", ("",)).label("", {"VAE": "V", "(empty)": "leer"}.get) == "V: leer"


@pytest.mark.parametrize(("axes", "message"), [
    ((Axis(PROMPT, ("red", "a")), Axis(PROMPT, ("red", "b"))), "two axes change the same"),
    ((Axis("steps", tuple(range(1, 30))), Axis("seed", tuple(range(20)))), "580 pictures are too many"),
    ((Axis("steps", (1,)), Axis("steps", (2,))), "two axes change the same"),
    ((Axis("steps", (500,)),), "Steps: 500 is not possible"),
    ((Axis("size", ("big",)),), "does not look like 512x768"),
    ((Axis(PROMPT, ("horse", "dog")),), "'horse' does not stand in the prompt")])
def test_what_cannot_be_made_is_refused_before_the_start(axes, message):
    with pytest.raises(RequestError, match=message):
        check(Matrix(BASE, *axes))


def test_the_weight_of_a_lora_is_an_axis():
    base = make(Txt2Img, **{**BASE.model_dump(), "prompt": "a cat <lora:ink:1> <lora:fur:0.3:0.4>"})
    cells = [cell.prompt for _, cell in Matrix(base, axis(LORA, "0, 0.5-1 (0.5)", Txt2Img)).cells()]
    assert cells[:2] == ["a cat <lora:ink:0> <lora:fur:0>", "a cat <lora:ink:0.5> <lora:fur:0.5>"] and len(cells) == 3
    second = changed(BASE, hires_scale=2, hires_prompt="fine <lora:fur:0.3>", hires_negative_prompt="bad <lora:ink:1>")
    _, cell = next(Matrix(second, Axis(LORA, (0.5,))).cells())
    assert (cell.hires_prompt, cell.hires_negative_prompt) == ("fine <lora:fur:0.5>", "bad <lora:ink:1>")
    for prompt in (BASE.prompt, "a cat # <lora:ink:1>"):
        with pytest.raises(RequestError, match="the prompt has no LoRA"):
            check(Matrix(changed(BASE, prompt=prompt), Axis(LORA, (0.5,))))


def test_what_stands_in_a_comment_alone_is_not_in_the_prompt():
    with pytest.raises(RequestError, match="'horse' does not stand in the prompt"):
        check(Matrix(changed(BASE, prompt="a red cat # or a horse"), Axis(PROMPT, ("horse", "dog"))))


def test_an_empty_value_leaves_a_field_open():
    cells = [cell for _, cell in Matrix(BASE, Axis("vae", ("", "my.vae")), Axis("hires_sampler", ("", "Heun"))).cells()]
    assert [(cell.vae, cell.hires_sampler) for cell in cells] == [
        (None, None), (None, "Heun"), ("my.vae", None), ("my.vae", "Heun")]


@pytest.mark.parametrize("cls", TASKS.values())
def test_every_field_that_can_be_an_axis_has_a_title_of_its_own(cls):
    titles = [Axis(name, ()).title for name, info in cls.model_fields.items()
              if extra_of(info)["axis_cost"] is not None]
    assert len(set(titles)) == len(titles)
    assert Axis("hires_scale", (1.5,)).label(1.5) == "Hires scale: 1.5"


def test_ten_thousand_typed_values_are_refused_before_they_are_all_read():
    begin = thread_time()
    for text in (",".join(map(str, range(2000))), ",".join(map(str, range(10_000))), "1-1e9 (1e-9)", "0-1 [1000000]"):
        with pytest.raises(RequestError):
            axis("seed", text, Txt2Img)
    assert thread_time() - begin < 10  # a billion values would take minutes, these take some milliseconds


def test_image_to_image_has_strength_as_an_axis():
    assert axis("strength", "0.2-0.8 (0.2)", Img2Img).values == (0.2, 0.4, 0.6, 0.8)


def test_a_grid_saves_every_cell_and_a_labelled_sheet(studio):
    matrix = Matrix(BASE, Axis("steps", (1, 2)), Axis("seed", (7, 8)))
    job = studio.submit(matrix)
    records = job.wait(300).records
    assert [record.is_grid for record in records] == [False] * 4 + [True]
    sheet = Image.open(records[-1].path)
    assert sheet.width > 128 and sheet.height > 128
    alone = studio.submit(make(Txt2Img, **{**BASE.model_dump(), "batch_size": 1, "steps": 2, "seed": 8})).wait(300)
    assert alone.records[0].infotext in {record.infotext for record in records[:4]}
    assert (job.control, job.task) and records[0].task == "txt2img"


def test_labels_are_drawn_in_the_language_of_who_asked_and_prompts_as_they_are(tmp_path, sd_folder):
    words = {"Steps": "Schritte", "Tiling": "Kacheln", "both": "beide", "a cat": "eine Katze"}
    tables = {"en": {}, "de": words}
    studio = Studio(load(["--data-dir", str(tmp_path), "--model", str(sd_folder)], {}),
                    speak=lambda language: lambda text: tables[language].get(text, text))
    matrix = Matrix(BASE, Axis("steps", (1,)), Axis("tiling", ("both",)))
    plain, german = (studio.submit(matrix, Caller(language=language)).wait(300).records for language in tables)
    studio.close()
    assert [each.infotext for each in plain] == [each.infotext for each in german]
    assert Image.open(plain[-1].path).tobytes() != Image.open(german[-1].path).tobytes()
    assert Axis("tiling", ("both",)).label("both", lambda text: words.get(text, "?")) == "Kacheln: beide"
    assert Axis("prompt", ("a cat",)).label("a cat", lambda text: words.get(text, "?")) == "?: a cat"


def test_a_grid_submitted_again_makes_only_what_is_missing(studio):
    matrix = Matrix(BASE, Axis("seed", (1, 2, 3)))
    first = studio.submit(matrix).wait(300).records
    first[1].path.unlink()
    job = studio.submit(matrix)
    second = job.wait(300).records
    assert [record.path for record in second[:3:2]] == [record.path for record in first[:3:2]]
    assert second[1].path != first[1].path and second[1].infotext == first[1].infotext


def test_a_stopped_grid_goes_on_where_it_was_and_ends_with_its_sheet(studio):
    matrix = Matrix(BASE, Axis("seed", (1, 2, 3)), Axis("steps", (2, 3)))
    job = studio.submit(matrix)
    for event in job.follow():
        if isinstance(event, Saved):
            job.stop()
    kept = [record.path for record in job.wait(300).records if not record.is_grid]
    assert 0 < len(kept) < 6
    records = studio.submit(matrix).wait(300).records
    assert [record.is_grid for record in records] == [False] * 6 + [True]
    assert set(kept) <= {record.path for record in records}


def test_a_grid_makes_again_what_was_deleted_or_damaged_meanwhile(studio):
    grid = Matrix(BASE, Axis("steps", (1, 2)))
    first = studio.submit(grid).wait(300).records
    first[0].path.write_bytes(b"")
    again = studio.submit(grid).wait(300).records
    assert again[0].path != first[0].path and Image.open(again[0].path).size == (64, 64)
    assert again[1] == first[1]


def test_the_third_axis_makes_a_sheet_for_each_of_its_values(studio):
    matrix = Matrix(BASE, Axis("seed", (1, 2)), None, Axis("guidance_scale", (1.0, 9.0, 12.0)))
    sheets = [record for record in studio.submit(matrix).wait(300).records if record.is_grid]
    assert matrix.shape == (2, 1, 3) and len(sheets) == 3
    assert len({Image.open(sheet.path).tobytes() for sheet in sheets}) == 3


def test_equal_and_random_seeds_are_pictures_of_their_own(studio):
    job = studio.submit(Matrix(BASE, axis("seed", "5, 5, -1, -1", Txt2Img)))
    records = job.wait(300).records
    assert [record.is_grid for record in records] == [False] * 4 + [True]
    seeds = [record.seed for record in records[:4]]
    assert len({record.path for record in records}) == 5 and seeds[:2] == [5, 5] and len({*seeds}) == 3


def test_what_an_axis_puts_is_read_like_the_prompt(studio):
    base = changed(BASE, prompt="a {red} cat # a note", dynamic="random")
    texts = Axis("prompt", ("a {dog|dog}", "a cat # red", "a fish"))
    cells = studio.submit(Matrix(base, texts)).request.requests
    assert [cell.prompt for cell in cells] == ["a dog", "a cat", "a fish"]
    with pytest.raises(RequestError, match="'note' does not stand in the prompt"):
        studio.submit(Matrix(base, Axis(PROMPT, ("note", "x"))))
    for several in ({"prompt": "a\nb", "prompt_lines": True}, {"prompt": "{a|b}", "dynamic": "all combinations"}):
        with pytest.raises(RequestError, match="Grid: the prompt stands for 2 prompts"):
            studio.submit(Matrix(changed(BASE, **several), Axis("steps", (1, 2))))


def test_another_source_picture_makes_another_grid(studio):
    def grid_of(colour):
        image = studio.images.add(Image.new("RGB", (64, 64), colour))
        base = make(Img2Img, prompt="a cat", image=image.id, steps=2, seed=3)
        return studio.submit(Matrix(base, Axis("steps", (2, 3)))).wait(300).records

    assert not {record.path for record in grid_of("red")} & {record.path for record in grid_of("blue")}


def test_the_time_left_of_a_grid_knows_of_slower_steps_to_come():
    event = StepDone(step=2, steps=10, image=1, images=1, steps_per_s=1.0, seconds_left=40.0)
    assert counted(event, 0, 3).seconds_left == 40 + 2 * 42
    assert counted(event, 2, 3).seconds_left == 40


def test_steps_are_counted_over_the_whole_grid(studio):
    job = studio.submit(Matrix(BASE, Axis("seed", (1, 2, 3))), Caller(page="p"))
    steps = [event for event in job.follow() if isinstance(event, StepDone)]
    assert steps[-1].image == steps[-1].images == 3


def test_a_cell_that_fails_is_said_and_the_others_are_made(studio):
    matrix = Matrix(BASE, Axis("clip_skip", (1, 12)))
    job = studio.submit(matrix)
    records = job.wait(300).records
    assert [record.is_grid for record in records] == [False, True]
    assert any(isinstance(event, Notice) and "Clip skip: 12" in event.text for event in job.events)
