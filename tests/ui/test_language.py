"""The page in German: complete, and only where it is read."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.context import LocalContext
from gradio_client import Client
from gradio_client.exceptions import AppError

from pipelines.errors import RequestError
from pipelines.requests import Txt2Img, make
from pipelines.settings import load
from pipelines.studio.studio import Studio
from ui import language, shell
from ui.language import page as page_language
from ui.wiring import guarded, toast

ROOT = Path(__file__).parents[2]
GERMAN = language.table("de")
# Functions whose text reaches a page, and modules that speak to whoever started the program only.
SAY = {"RequestError", "StudioError", "ModelError", "QueueFull", "OutOfMemory", "Cancelled", "Notice", "Mark", "inform",
       "Refused"}
CONSOLE = ("settings/declaration.py", "settings/sources.py", "pipelines/passwords.py", "ui/server/launch.py",
           "ui/server/sharing.py", "__main__.py", "pipelines/machine/locks.py")
# Parts of sentences: what such calls and keywords hold is for programs, or is looked at by another test.
FOR_PROGRAMS = {"debug", "info", "warning", "error", "exception", "compile", "sub", "execute", "executescript",
                "ValueError", "TypeError", "KeyError", "RuntimeError", "AssertionError"}
KEYWORDS = {"help", "js", "elem_classes", "infotext", "a1111", "description", "name", "label", "alt_text"}
# Modules that speak to a terminal, to other programs, or of drawings.
SILENT = (*CONSOLE, "ui/server/guard.py", "ui/server/logins.py", "ui/server/sparse.py", "ui/server/connections.py",
          "ui/server/answering.py", "ui/server/frontend_patch.py", "ui/forms/mask_editor.py", "run/report.py",
          "lab/bundle.py", "lab/emoji/draw.py", "training/example/__init__.py", "example/draw.py",
          "library/sidecars.py", "library/store.py", "adapters/write.py", "numbers/batches.py", "metadata/fields.py",
          "numbers/tensors.py")
PART = re.compile(r"(?!.*=>)([\s,;:({]*[a-z{][^A-Z_=<>/|\\]*? [^\s].*|.*[a-z]+ .*[.!?])")
# Parts that stand in a whole sentence of the table, or are names and sizes.
STAND_IN_A_SENTENCE = {
    "is an inpainting model", "is {}, and the library has none for it", "{} cannot do {}: it {}.", " and no ",
    "ranks {} to {}", ", for {}", "{} thread{}", "{} can be read.", "this is a {} file. {}",
    "this is not a picture file. {}", ", with parts waiting in main memory", ", layer by layer: slow", ": too much",
    " ({} MB free)", " The steps after {} are lost.", " Did you mean {}?", "{}; {}. The run can go on from here.",
    "{} pictures ({} x {} on {} {}){}.", ", about {}", "Settings read{}.", ": step {} of {}", "{} of {} GB",
    "{} s a step, {} picture{} at once", ", with gradient checkpointing", ", done at {}", "{} to {}", "{} ({})",
    " Generate goes on from here.", "prompt text", "lora weight",
    "Goes behind what is typed, or around it where {} stands.", "The same for the negative prompt; {} works too.",
    "{} Empty: as the preset says.", " Go on tries again.", "{} of {}", "{} files{}", "ready on the device",
    "waits in main memory", "Its {} are not here any more; yours stay chosen.",
    "{}: {} of {} layers matched, {}{}", "Generate makes {} {}.", ": {} of {} files",
    "log10 weight", "{} (asked for)", "safetensors, {}", "{} hash",
    "{} <lora:{}:{}>", "{} ({}, {})", "{} min {} s", "{} px", "{} × {} px", "can't allocate memory",
    "out of memory", "not enough memory: you tried to allocate", " ({} kept aside to measure on)",
    "{} pictures{}, {} steps of {}: each is seen about {} times. Learns {}, at a learning rate of {}. Forecast tries a "
    "few steps and says how long it takes.", "{}: {} more pictures. The run's manifest.json names them all."}
NAMES = re.compile(r"# Atelier|\?|[\w-]+-(image-id|kept-mask|last-mask)|visitor|model before|values to move"
                   r"|limits shown|.*: marks|\d+(st|nd|rd|th)")


@pytest.fixture(scope="module")
def page(tmp_path_factory, sd_folder):
    studio = Studio(load(["--data-dir", str(tmp_path_factory.mktemp("data")), "--model", str(sd_folder)], {}))
    yield shell.build(studio)
    studio.close()


def texts_of(page) -> dict[str, str]:
    """Every text of ours that the page shows: where it stands -> the text. Choices are names of values."""
    found = {}
    for block in page.blocks.values():
        for name in page_language.attributes(block):
            text = getattr(block, name).strip()
            is_card = "card" in (getattr(block, "elem_classes", None) or ())  # an example: a prompt, not a label
            if text and not is_card and not NAMES.fullmatch(text) and not page_language.is_line(block):
                found[f"{getattr(block, 'elem_id', '')} {name}"] = text
        drawn = [*(getattr(block, "headers", None) or ()), getattr(block, "x_title", None) or ""]
        found |= {f"{block.elem_id} {text}": text for text in drawn if re.search("[a-z]{2}", text)}
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


def parts(node: ast.AST) -> Iterator[str]:
    """Every string below a node that a person may read: without docstrings and what is for programs."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Assert():
            return
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in FOR_PROGRAMS:
            return
        case ast.keyword(arg=name) if name in KEYWORDS:
            return
        case ast.Subscript(value=value):
            yield from parts(value)
        case _ if (text := template(node)) is not None:
            yield text
        case _:
            for child in ast.iter_child_nodes(node):
                yield from parts(child)


def is_translated(text: str) -> bool:
    """Whether a part is in the table, or is a sentence of the table with nothing of ours in its blanks."""
    if text.strip() in GERMAN:
        return True
    filled = text.replace("{}", "7")
    found = (language._parts(f"{before}{filled}", pieces) for pieces, _ in language._sentences("de")
             for before in ("", "7"))
    return any(blanks and all(re.fullmatch(r"[\W\d]*", blank) for blank in blanks) for blanks in found)


def test_no_part_of_a_sentence_lacks_a_translation():
    missing = {}
    for path in [*(ROOT / "pipelines").rglob("*.py"), *(ROOT / "ui").rglob("*.py")]:
        module = path.relative_to(ROOT).as_posix()
        if not module.endswith(SILENT) and "pipelines/demo" not in module:
            missing |= {text: module for text in parts(ast.parse(path.read_text(encoding="utf-8")))
                        if len(re.findall(r"[A-Za-z]{2,}|\{\}", text)) > 1 and re.search("[a-z]{2,}", text)
                        and PART.fullmatch(text) and text not in STAND_IN_A_SENTENCE and not is_translated(text)}
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
    found = page_language.mark(page)
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
    ("2 pictures in 3.1 s · 1.6 s each", "2 Bilder in 3.1 s · 1.6 s je Bild"),
    ("Waiting: 1 job before this one", "Wartet: 1 Auftrag davor"),
    ("LoRA: 'x' is not here. The nearest is 'fox'. It was left out.",
     "LoRA: 'x' ist nicht hier. Am nächsten liegt 'fox'. Sie wurde weggelassen."),
    ("Stopped. 2 pictures kept.", "Angehalten. 2 Bilder behalten."),
    ("17 files · 3 hashes to come", "17 Dateien · 3 Hashes fehlen noch"), ("Kind: LoRA", "Art: LoRA"),
    ("x: 12% of 2.1 GB, 3.2 MB/s, 9 s left", "x: 12% von 2.1 GB, 3.2 MB/s, noch 9 s"),
    ("24 pictures · 2 mended", "24 Bilder · 2 ausgebessert"), ("DDIM, 20 steps", "DDIM, 20 Schritte"),
    ("Forecast: 0.25 s a step, 8 pictures at once, 1.1 of 12.4 GB; all steps take about 1 min 5 s, done at 14:32.",
     "Vorhersage: 0.25 s je Schritt, 8 Bilder zugleich, 1.1 von 12.4 GB; alle Schritte dauern etwa 1 min 5 s, "
     "fertig um 14:32."),
    ("rank 4", "Rang 4"), ("scale 0.5", "Faktor 0.5"), ("predicted x0", "vorhergesagtes x0"), ("grid", "Raster"),
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


# What a disk, or one in the network, can answer.
DISK = ("ENOSPC", "EACCES", "EROFS", "ENOENT", "EIO", "EPERM", "EDQUOT", "EFBIG", "ENAMETOOLONG", "EEXIST", "EISDIR",
        "ENOTDIR", "ENOTEMPTY", "EBUSY", "EMFILE", "ENOMEM", "EINVAL", "ESTALE", "ENOTCONN", "ENXIO")


@pytest.mark.skipif(sys.platform != "linux", reason="the words are those of the system's C library")
def test_what_a_disk_says_is_said_in_german():
    for name in DISK:
        reason = os.strerror(getattr(errno, name))
        told = language.said(f"The picture cannot be stored: {reason}.", "de")
        assert told.startswith("Das Bild kann nicht gespeichert werden: ") and reason not in told, reason


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
    page_language.speak(demo)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, i18n=page_language.mark(demo))
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


def test_a_toast_is_headed_in_the_language_of_its_page():
    page = LocalContext.request.set(SimpleNamespace(cookies={language.COOKIE: "de"}, headers={}))
    try:
        told = toast("Stopped.")
    finally:
        LocalContext.request.reset(page)
    assert (told.title, told.message) == ("Fehler", "Angehalten.")
    assert (toast("Stopped.").title, toast("Stopped.").message) == ("Error", "Stopped.")


def test_a_stream_of_news_is_turned_as_well(url):
    job = Client(url, verbose=False, headers={"accept-language": "de"}).submit("x", api_name="/count")
    assert job.result() == "1 Bild in 2.0 s" and job.outputs()[0] == "Es beginnt ..."


def test_the_dictionaries_stay_a_small_part_of_the_page(page):
    size = len(json.dumps(page_language.mark(page).translations).encode())
    assert size < 150_000, "what every page loads has grown"


def test_what_scripts_write_has_a_translation():
    written = {text for path in (ROOT / "ui").rglob("*.py")
               for text in re.findall(r"atelier\.word\('([^']+)'\)", path.read_text(encoding="utf-8"))}
    assert written and written <= set(page_language.BY_SCRIPTS) <= set(GERMAN)
