"""What is told beside a prompt while somebody types."""

from __future__ import annotations

import json
from time import thread_time

import pytest

from pipelines.errors import RequestError, StudioError
from pipelines.prompts.styles import Style
from pipelines.prompts.tokens import Tokens
from pipelines.requests import MAX_PROMPT, Txt2Img, make
from pipelines.settings import load
from pipelines.studio.studio import Studio
from tests.work import calls
from ui.forms.prompt_box import _looker, count_line

MOST_CALLS = 300_000  # 50 ms or so where nothing else runs


@pytest.fixture(scope="module")
def studio(tmp_path_factory, sd_folder):
    studio = Studio(load(["--data-dir", str(tmp_path_factory.mktemp("data")), "--model", str(sd_folder)], {}))
    yield studio
    studio.close()


def told(studio, text):
    """(tokens, sentences about faults, marked pieces)"""
    count, _, faults, marks = _looker(studio)(text, studio.collection.default_card().name)
    places = json.loads(marks) if marks else {"text": "", "marks": []}
    return count, faults.value if faults.visible else "", [places["text"][start:end] for start, end in places["marks"]]


def test_tokens_are_told_for_each_chunk():
    assert count_line(Tokens(3, 75, "", "", (3,))) == "3/75"
    assert count_line(Tokens(88, 150, "", "", (70, 13))) == "70 + 13 · 88/150"
    assert count_line(Tokens(463, 525, "", "", (75,) * 6 + (13,))) == "6 chunks + 13 · 463/525"


def test_mistakes_are_marked_and_said(studio):
    assert told(studio, "a red cat") == ("3/75", "", [])
    assert told(studio, "") == ("", "", [])
    count, faults, marked = told(studio, "a 🐱 (cat in __rooms__ <lora:none:1>")
    assert marked == ["(", "__rooms__", "<lora:none:1>"] and count.endswith("/75")
    assert faults == ("This bracket has no partner. · There is no wildcard file for __rooms__. · "
                      "There is no LoRA called none.")


def test_a_wildcard_file_that_was_just_written_is_known(studio, tmp_path):
    folder = studio.settings.data_dir / "wildcards"
    folder.mkdir(exist_ok=True)
    assert told(studio, "a __colour__ cat")[2] == ["__colour__"]
    (folder / "colour.txt").write_text("red\n")
    assert told(studio, "a __colour__ cat")[2] == []
    request = studio.resolver.resolve(make(Txt2Img, prompt="a __colour__ cat", dynamic="random"))
    assert request.prompt == "a red cat"


@pytest.mark.parametrize("text", ["a red cat, " * 360, "(red:1.2) [cat|dog] " * 190, "[a|b|c]" * 500,
                                  "<lora:x:1> __y__ " * 200, "(" * MAX_PROMPT, "((((a:1.1) [b" * 280])
def test_an_edit_of_four_thousand_characters_costs_little(studio, text):
    told(studio, text)
    assert calls(told, studio, f"{text[:-2]}0") < MOST_CALLS


@pytest.mark.parametrize("text", ["(" * 10_000 + ")" * 10_000, "a" * 1_000_000, "[(" * 5_000, "__a__" * 3_000,
                                  "(cat:1e9)", "(cat:nan)", "{" * 9_000])
def test_hostile_prompts_are_answered_at_once(studio, text):
    begin = thread_time()
    _, faults, _ = told(studio, text)
    if len(text) > MAX_PROMPT:
        assert f"{len(text):,} characters are too many. At most 4,000." in faults
        with pytest.raises(RequestError, match="Prompt"):
            make(Txt2Img, prompt=text)
    assert thread_time() - begin < 10  # of this thread's own; a text that is read again and again takes minutes


def test_a_wildcard_that_names_itself_is_refused_in_words(studio):
    folder = studio.settings.data_dir / "wildcards"
    folder.mkdir(exist_ok=True)
    (folder / "loop.txt").write_text("a __loop__\n")
    with pytest.raises(RequestError, match="the wildcard __loop__ names itself"):
        studio.resolver.resolve(make(Txt2Img, prompt="__loop__", dynamic="random"))


def test_styles_become_part_of_the_prompt_before_anything_else_reads_it(studio):
    (studio.settings.data_dir / "styles.csv").write_bytes(
        "name,prompt,negative_prompt\nÖl,Ölbild von {prompt},Foto\nsharp,sharp focus,\n".encode("utf-16"))
    request = studio.resolver.resolve(make(Txt2Img, prompt="a cat\na dog", prompt_lines=True, styles=["Öl", "sharp"]))
    assert request.prompt == "Ölbild von a cat, sharp focus\nÖlbild von a dog, sharp focus"
    assert request.negative_prompt == "Foto" and request.styles == ()
    with pytest.raises(RequestError, match="Styles: there is none called 'oil'"):
        studio.resolver.resolve(make(Txt2Img, prompt="a cat", styles=["oil"]))


def test_only_the_owner_changes_styles(tmp_path, sd_folder):
    public = Studio(load(["--data-dir", str(tmp_path), "--model", str(sd_folder), "--host", "0.0.0.0"], {}))
    (tmp_path / "styles.csv").write_text("name,prompt\nold,x\n")
    for change in (lambda: public.styles.save(Style("new", "y")), lambda: public.styles.delete("old")):
        with pytest.raises(StudioError, match="Only the owner"):
            change()
    assert [style.name for style in public.styles.all()] == ["old"]
    public.close()
