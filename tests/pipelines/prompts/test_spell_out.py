"""From what is typed to the prompts that are drawn: comments, lines, styles and choices, in every field."""

from __future__ import annotations

import pytest

from pipelines.errors import RequestError
from pipelines.prompts.spell_out import spelled_out
from pipelines.prompts.styles import Style, Styles
from pipelines.prompts.texts import each, prompt_fields
from pipelines.prompts.wildcards import Wildcards
from pipelines.requests import MAX_PROMPT, TASKS, Img2Img, Txt2Img, changed, make


@pytest.fixture
def spell(tmp_path):
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "wildcards" / "bad.txt").write_text("blur # the usual\nnoise\n# out\n")
    styles = Styles(tmp_path / "styles.csv")
    styles.save(Style("noto", "noto style, white background # mine", "photo # no"),
                Style("around", "# x\nof {prompt}, y"))

    def spell(cls=Txt2Img, **values):
        return spelled_out(make(cls, **{"seed": 5, **values}), styles, Wildcards(tmp_path / "wildcards"))

    return spell


def test_a_comment_swallows_no_style(spell):
    made = spell(prompt="a red apple # note", negative_prompt="blur # why", styles=("noto", "around"))
    assert made.prompt == "of a red apple, noto style, white background, y"
    assert made.negative_prompt == "blur, photo" and made.styles == ()


@pytest.mark.parametrize("cls", TASKS.values())
def test_every_prompt_of_a_request_loses_its_comments_and_what_is_in_them(spell, cls):
    names = prompt_fields(cls)
    made = spell(cls, **{name: f"{name} # note\n# off: <lora:loud:1>\n<lora:ink:1>" for name in names})
    assert [getattr(made, name) for name in names] == [f"{name}\n<lora:ink:1>" for name in names]


def test_a_line_that_is_a_comment_makes_no_picture(spell):
    made = spell(prompt="a red apple\n# a green one\n\na house # old\n", prompt_lines=True, batch_count=2,
                 styles=("noto",))
    assert made.prompts == tuple(f"{one}, noto style, white background" for one in ("a red apple", "a house"))
    assert made.image_count == 4 and [one.negative_prompt for one in each(made)] == ["photo"] * 2


def test_several_prompts_keep_their_line_breaks(spell):
    once = spell(prompt="# fruit\na {red|green} apple\non a {mat|bed}", dynamic="random")
    made = spell(prompt="# fruit\na {red|green} apple\non a {mat|bed}", dynamic="random", batch_count=6)
    assert made.prompts[0] == once.prompt and once.texts == () and made.batch_count == 1 and made.image_count == 6
    assert all(prompt.startswith("a ") and "apple\non a" in prompt for prompt in made.prompts)
    assert len({*made.prompts}) > 1
    assert [one.prompt for one in each(made)] == list(made.prompts) and each(made)[1].texts == ()


def test_choices_are_drawn_in_every_prompt_anew_for_each_batch(spell):
    made = spell(prompt="a cat", negative_prompt="__bad__, {dark|grey}", hires_scale=2.0,
                 hires_prompt="a {red|green} cat", hires_negative_prompt="{x|y}", dynamic="random", batch_count=12)
    drawn = [(one.negative_prompt, one.hires_prompt, one.hires_negative_prompt) for one in each(made)]
    assert {text for text, _, _ in drawn} == {f"{one}, {two}" for one in ("blur", "noise") for two in ("dark", "grey")}
    assert {text for _, text, _ in drawn} == {"a red cat", "a green cat"} and {text for *_, text in drawn} == {"x", "y"}
    assert spell(Img2Img, negative_prompt="{a|a}", dynamic="random").negative_prompt == "a"


def test_combinations_are_those_of_all_prompts_that_are_read(spell):
    asked = dict(prompt="{a|b}", negative_prompt="{c|d}", hires_prompt="{e|f}", dynamic="all combinations")
    assert [(one.prompt, one.negative_prompt) for one in each(spell(**asked))] == [
        ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")]
    assert len(spell(**asked, hires_scale=2.0).texts) == 8 and spell(**asked).hires_prompt in ("e", "f")
    with pytest.raises(RequestError, match="more than 256 pictures"):
        spell(prompt="{a|b}" * 5, negative_prompt="{a|b}" * 4, dynamic="all combinations")


def test_a_variable_of_the_prompt_holds_in_the_others(spell):
    for seed in range(8):
        made = spell(prompt="${x=!{red|green}} a ${x} cat", negative_prompt="no ${x} dog", hires_prompt="${x}, sharp",
                     dynamic="random", seed=seed)
        colour = made.hires_prompt.removesuffix(", sharp")
        assert colour in ("red", "green")
        assert (made.prompt, made.negative_prompt) == (f"a {colour} cat", f"no {colour} dog")


def test_each_prompt_has_the_limit_of_one(spell):
    long = "x" * (MAX_PROMPT - 10)
    assert len(spell(prompt=f"{{a|a}} {long}", negative_prompt=f"{{b|b}} {long}", dynamic="random",
                     batch_count=3).texts) == 3
    for values in ({"prompt": long, "styles": ("noto",)}, {"negative_prompt": "{aaaaaaaaaaaa|bbbbbbbbbbbb}" + long[:-2],
                                                           "dynamic": "random", "batch_count": 2}):
        with pytest.raises(RequestError, match="longer than|too many"):
            spell(**values)


def test_what_was_spelled_out_stays_as_it_is(spell):
    made = spell(prompt=r"\#1 {a|b} # c", dynamic="random")
    assert spell(**changed(made, seed=5).model_dump()) == made and made.prompt.startswith(r"\#1 ")
