"""The page in German: complete, and only where it is read."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from pipelines.errors import RequestError
from pipelines.requests import Txt2Img, make
from pipelines.settings import load
from pipelines.studio import Studio
from ui import language, shell
from ui.wiring import guarded

ROOT = Path(__file__).parents[2]
GERMAN = language.table("de")
# Functions whose text reaches a page, and modules that speak to whoever started the program only.
SAY = {"RequestError", "StudioError", "ModelError", "QueueFull", "OutOfMemory", "Cancelled", "Notice", "Mark", "inform"}
CONSOLE = ("pipelines/settings.py", "ui/launch.py", "ui/sharing.py", "__main__.py")
NAMES = re.compile(r"# Atelier|\?|[\w-]+-(image-id|kept-mask|last-mask)|visitor|model before|limits shown|.*: marks"
                   r"|\d+(st|nd|rd|th)")


@pytest.fixture(scope="module")
def page(tmp_path_factory, sd_folder):
    studio = Studio(load(["--data-dir", str(tmp_path_factory.mktemp("data")), "--model", str(sd_folder)], {}))
    yield shell.build(studio)
    studio.close()


def texts_of(page) -> dict[str, str]:
    """Every text of ours that the page shows: where it stands -> the text. Choices are names of values."""
    found = {}
    for block in page.blocks.values():
        for name in language.attributes(block):
            text = getattr(block, name).strip()
            is_card = "card" in (getattr(block, "elem_classes", None) or ())  # an example: a prompt, not a label
            if text and not is_card and not NAMES.fullmatch(text) and not language.is_line(block):
                found[f"{getattr(block, 'elem_id', '')} {name}"] = text
    return found


def template(node: ast.AST) -> str | None:
    """A string in the source, with {} for what is put in; None for what is no string."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(value.value if isinstance(value, ast.Constant) else "{}" for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            before, after = template(left), template(right)
            return None if before is None and after is None else (before or "{}") + (after or "{}")
    return None


def messages() -> Iterator[tuple[str, str]]:
    """Every sentence that is raised, noticed or shown: (module, text)."""
    for path in [*(ROOT / "pipelines").rglob("*.py"), *(ROOT / "ui").rglob("*.py")]:
        module = path.relative_to(ROOT).as_posix()
        if module.endswith(CONSOLE):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (getattr(node.func, "id", "") or getattr(node.func, "attr", "")) in SAY:
                yield from ((module, text) for text in map(template, node.args) if text and " " in text)


def test_no_text_of_the_page_lacks_a_translation(page):
    missing = {text: "" for text in texts_of(page).values() if text not in GERMAN}
    assert not missing, f"add to ui/language/de.json:\n{json.dumps(missing, ensure_ascii=False, indent=0)}"


def test_no_message_lacks_a_translation():
    missing = {text: module for module, text in messages() if text not in GERMAN}
    assert not missing, f"add to ui/language/de.json:\n{json.dumps(missing, ensure_ascii=False, indent=0)}"


def test_the_reader_of_messages_sees_joined_and_filled_strings():
    source = 'Notice(f"a {b} c" " d")\nRequestError("one two" + f"{x}!", "field")\nStudioError(text)\nother("x y")'
    found = [template(node.args[0]) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    assert found == ["a {} c d", "one two{}!", None, "x y"]


def test_translations_keep_blanks_links_and_marks():
    for english, german in GERMAN.items():
        assert german.strip() and english.count("{}") == german.count("{}"), english
        for pattern in (r"https?://[^\s)]+", r"__name__|\{a\|b\|2::c\}|\{prompt\}|<lora:name:1>", r"arXiv:[\d.]+"):
            assert re.findall(pattern, english) == re.findall(pattern, german), english


def test_choices_keep_their_values(page):
    before = {block._id: [value for _, value in block.choices] for block in page.blocks.values()
              if isinstance(block, gr.Dropdown)}
    labels = {block._id: block.label for block in page.blocks.values() if isinstance(block, gr.Slider)}
    found = language.mark(page)
    after = {block._id: [value for _, value in block.choices] for block in page.blocks.values()
             if isinstance(block, gr.Dropdown)}
    assert before == after
    english, german = found.translations["en"], found.translations["de"]
    assert english.keys() == german.keys() and len(english) > 300
    key = {text: key for key, text in english.items()}
    for block in page.blocks.values():
        if labels.get(block._id) in key:
            assert f'"{key[labels[block._id]]}"' in block.label


@pytest.mark.parametrize(("english", "german"), [
    ("Steps: 0 is not possible. Input should be greater than or equal to 1.",
     "Schritte: 0 ist nicht möglich. Der Wert muss mindestens 1 sein."),
    ("Step 7 of 20 · picture 2 of 4 · 11.2 it/s · 3 s left",
     "Schritt 7 von 20 · Bild 2 von 4 · 11.2 it/s · noch 3 s"),
    ("2 pictures in 3.1 s", "2 Bilder in 3.1 s"),
    ("Waiting: 1 job before this one", "Wartet: 1 Auftrag davor"),
    ("LoRA: 'x' is not here. The nearest is 'fox'. It was left out.",
     "LoRA: 'x' ist nicht hier. Am nächsten liegt 'fox'. Sie wurde weggelassen."),
    ("Stopped. 2 pictures kept.", "Angehalten. 2 Bilder behalten."),
    ("17 files · 3 hashes to come", "17 Dateien · 3 Hashes fehlen noch"), ("Kind: LoRA", "Art: LoRA"),
    ("x: 12% of 2.1 GB, 3.2 MB/s, 9 s left", "x: 12% von 2.1 GB, 3.2 MB/s, noch 9 s"),
    ("24 pictures, 2 mended.", "24 Bilder, 2 ausgebessert."), ("DDIM, 20 steps", "DDIM, 20 Schritte"),
    ("Forecast: 0.25 s a step, 8 pictures at once, 1.1 of 12.4 GB; all steps take about 1 min 5 s, done at 14:32.",
     "Vorhersage: 0.25 s je Schritt, 8 Bilder zugleich, 1.1 von 12.4 GB; alle Schritte dauern etwa 1 min 5 s, "
     "fertig um 14:32."),
    ("no sentence of ours", "no sentence of ours"), ("", "")])
def test_a_message_is_turned_with_what_stands_in_it(english, german):
    assert language.said(english, "de") == german
    assert language.said(english, "en") == english


def test_what_a_request_refuses_is_said_in_german():
    for values in ({"steps": 0}, {"width": 65}, {"prompt": "x" * 4001}, {"seed": "x"}, {"styles": ["a"] * 30},
                   {"tiling": "z"}, {"prompt_lines": "x"}):
        with pytest.raises(RequestError) as refused:
            make(Txt2Img, **values)
        assert not re.search(r"not possible|should", language.said(str(refused.value), "de")), refused.value


def test_a_line_that_is_long_or_odd_takes_no_time():
    for text in ("{} " * 2_000, "Steps: " * 600, " · ".join("ab") * 500, "x" * 100_000):
        assert isinstance(language.said(text, "de"), str)


@pytest.fixture(scope="module")
def url():
    def answer(word: str) -> tuple[str, str]:
        if not word:
            raise RequestError("Picture: there is no result yet.")
        return "Stopped.", "Stopped."

    def count(word: str) -> Iterator[str]:
        yield "Starting ..."
        yield "1 picture in 2.0 s"

    with gr.Blocks(analytics_enabled=False) as demo:
        word, line, box = gr.Textbox(), gr.Textbox(interactive=False, elem_classes="line strong"), gr.Textbox()
        gr.Button().click(guarded(answer), word, [line, box], api_name="answer")
        gr.Button().click(count, word, line, api_name="count")
    language.speak(demo)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, i18n=language.mark(demo))
    yield url
    demo.close()


@pytest.mark.parametrize(("headers", "line", "error"), [
    ({}, "Stopped.", "there is no result yet"),
    ({"accept-language": "de-AT,de;q=0.9,en;q=0.8"}, "Angehalten.", "Es gibt noch kein Ergebnis"),
    ({"accept-language": "fr,en;q=0.5"}, "Stopped.", "there is no result yet"),
    ({"accept-language": "de", "cookie": f"{language.COOKIE}=en"}, "Stopped.", "there is no result yet"),
    ({"accept-language": "en", "cookie": f"{language.COOKIE}=de"}, "Angehalten.", "Es gibt noch kein Ergebnis"),
])
def test_the_server_speaks_the_language_of_the_page_that_asks(url, headers, line, error):
    client = Client(url, verbose=False, headers=headers)
    assert list(client.predict("x", api_name="/answer")) == [line, "Stopped."]  # a box that people fill stays as it is
    with pytest.raises(AppError, match=error):
        client.predict("", api_name="/answer")


def test_a_stream_of_news_is_turned_as_well(url):
    job = Client(url, verbose=False, headers={"accept-language": "de"}).submit("x", api_name="/count")
    assert job.result() == "1 Bild in 2.0 s" and job.outputs()[0] == "Es beginnt ..."


def test_the_dictionaries_stay_a_small_part_of_the_page(page):
    size = len(json.dumps(language.mark(page).translations).encode())
    assert size < 150_000, "what every page loads has grown"


def test_what_scripts_write_has_a_translation():
    written = {text for path in (ROOT / "ui").rglob("*.py")
               for text in re.findall(r"atelier\.word\('([^']+)'\)", path.read_text(encoding="utf-8"))}
    assert written and written <= set(language.BY_SCRIPTS) <= set(GERMAN)
