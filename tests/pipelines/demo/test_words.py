"""What the embedded model says of words that it was not taught; without torch."""

from __future__ import annotations

import json

import pytest

from pipelines.demo import EXAMPLES, MODEL_DIR
from pipelines.demo.words import HERE, Strange, strange
from pipelines.library.checkpoints import EMBEDDED_NAME
from pipelines.settings import load
from pipelines.studio.studio import Studio
from tests.pipelines.library.files import lora
from ui.forms.prompt_box import SHOWN_WORDS, _stranger, untaught_line

CONCEPTS = json.loads((MODEL_DIR.parent / "vocabulary.json").read_text("utf-8"))["concepts"]


@pytest.mark.parametrize(("text", "untaught", "near"), [
    ("a house on a hill at sunset, oil painting", ["hill", "sunset", "oil", "painting"],
     ["snow-capped mountain", "sun", "artist palette"]),
    ("two dogs, three strawberries and wolves", [], []),
    ("a pengiun", ["pengiun"], ["penguin"]),
    ("a grey castle, noto style, gray background", ["grey"], ["gray"]),
    ("ein Haus am Meer", ["ein", "haus", "am", "meer"], []),
    ("ПРИВЕТ 猫猫, 8k 1024", ["привет", "猫猫"], []), ("", [], []), ("!!! 12 ,,", [], [])])
def test_words_that_were_not_taught_are_named_with_what_is_near(text, untaught, near):
    found = strange(text)
    assert (list(found.untaught), list(found.near)) == (untaught, near)


def test_everything_that_was_taught_is_known():
    names = [text for name, about in CONCEPTS.items() for text in (name, about["short"])]
    assert not [text for text in [*names, *(one["prompt"] for one in EXAMPLES)] if strange(text).untaught]


def test_what_is_called_near_was_taught_and_the_words_for_it_were_not():
    lines = [line.partition(":") for line in (HERE / "near.txt").read_text("utf-8").splitlines() if line[0] not in "#-"]
    colours = json.loads((MODEL_DIR.parent / "vocabulary.json").read_text("utf-8"))["colours"]
    assert {name for name, _, _ in lines} <= {*CONCEPTS, *colours}
    assert {strange(found).untaught for _, _, words in lines for found in words.split()} != {()}
    assert set(Strange().some) <= {about["short"] for about in CONCEPTS.values()}


def test_the_line_is_short():
    assert untaught_line(strange("a dog")) == ""
    assert untaught_line(strange("a zeppelin")) == (
        "Not taught: zeppelin. This model knows things such as dog, rocket, house.")
    line = untaught_line(strange("hill " + " ".join(f"xyzz{letter}" for letter in "abcdefghij")))
    assert line.count("xyzz") == SHOWN_WORDS - 1 and " ...." in line and "snow-capped mountain" in line


def test_only_the_embedded_model_says_so_and_of_a_prompts_words_alone(tmp_path, sd_folder):
    lora(tmp_path / "loras" / "mine.safetensors")
    (tmp_path / "loras" / "mine.json").write_text('{"activation text": "zeppelin"}')
    studio = Studio(load(["--data-dir", str(tmp_path), "--model", str(sd_folder)], {}))
    studio.collection.library.refresh()
    assert studio.collection.library.wait_for_scan() is not False
    assert studio.prompts.strange("an oil painting", studio.collection.default_card().name) == Strange()
    text = "an (oil:1.3) [dog|submarine] __colours__ <lora:nowhere:1>"
    assert studio.prompts.strange(text, EMBEDDED_NAME).untaught == ("oil", "submarine")
    assert studio.prompts.strange("a zeppelin", EMBEDDED_NAME).untaught == ("zeppelin",)
    assert studio.prompts.strange("a zeppelin <lora:mine:0.8>", EMBEDDED_NAME).untaught == ()
    row, line = _stranger(studio)("an oil painting", EMBEDDED_NAME)
    assert row.visible and line == "Not taught: oil, painting. Nearest: artist palette."
    row, line = _stranger(studio)("an oil painting", studio.collection.default_card().name)
    assert not row.visible and line == ""
    studio.close()
