"""The page in another language: English stands where it is used, and is turned at the edge.

A language is one table, such as de.json: English text -> its translation, with {} where a message has a name or a
number. `mark` hands what a page always shows to Gradio's i18n, which turns it in the browser; `speak` and `said` turn
what the server says, in the language of the page that asked. Requests, metadata and saved settings stay in English.
To add a language, write its table and name it in LANGUAGES.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache, partial, wraps
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from gradio.i18n import I18nData

from ..tooltips import TIPS

LANGUAGES = {"en": "English", "de": "Deutsch"}
MAX_MESSAGE = 2_000  # characters; longer ones are no sentence of ours
ENDING = 10  # characters behind the last blank that make an ending
MAX_DEPTH = 3  # sentences within sentences
COOKIE = "atelier-language"  # what somebody chose; without it the browser's own language counts
BY_SCRIPTS = ("Starting ...", "Stopping ...", "Skipping this picture ...", "Text to image", "Image to image",
              "Inpaint", "Upscale", "Models", "Train", "Lab", "Image info", "Settings",
              "Delete this picture and its file?",
              # what Gradio's own parts say to readers and when the pointer rests on them
              "Pan", "Zoom in", "Zoom out", "Undo", "Redo", "Clear canvas", "Brush", "Erase", "Upload", "Copy",
              "Fullscreen", "Remove Image", "number input for {}", "range slider for {}", "Thumbnail {} of {}",
              "File upload", "Click to upload or drop files", "Download", "Close", "Clear", "Exit fullscreen",
              "Remove", "Select", "Toggle", "Reset to default value", "More tabs",
              "detailed view of selected image", "Open cell menu", "Progress")
SHOWN = ("label", "info", "placeholder", "title")  # attributes of any component; names of axes are drawn as they are
WRITTEN = (gr.Button, gr.UploadButton, gr.DownloadButton, gr.Markdown)  # components whose value is a text of ours


@cache
def table(language: str) -> dict[str, str]:
    """English text -> translation; empty for English."""
    path = Path(__file__).with_name(f"{language}.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


# What a page always shows


def mark(demo: gr.Blocks) -> gr.I18n:
    """Replace every text of a built page that has a translation by a key; returns the dictionaries for `launch`."""
    tables = {language: table(language) for language in LANGUAGES if language != "en"}
    translated = set().union(*tables.values())
    keys: dict[str, str] = {}

    def key(text: Any) -> Any:
        text = text.strip() if isinstance(text, str) else text
        if text not in translated:
            return text
        # A text is no good key itself: Gradio takes the first } for the end of its mark.
        return str(I18nData(keys.setdefault(text, f"t{len(keys)}")))

    for block in demo.blocks.values():
        for name in attributes(block):
            setattr(block, name, key(getattr(block, name)))
        if isinstance(block, gr.Dropdown | gr.Radio):
            block.choices = [(key(shown), value) for shown, value in block.choices]
    english = {short: text for text, short in keys.items()}
    return gr.I18n(en=english, **{language: {short: found[text] for short, text in english.items() if text in found}
                                  for language, found in tables.items()})


def attributes(block: Any) -> list[str]:
    """Names of the attributes of a component that hold text of ours."""
    names = [name for name in SHOWN if isinstance(getattr(block, name, None), str)]
    written = (isinstance(block, WRITTEN) or is_line(block)) and isinstance(block.value, str)
    return [*names, "value"] if written else names


def words() -> str:
    """What a page's own scripts write, as a script that gives them their translations."""
    found = {language: {text: table(language)[text] for text in (*BY_SCRIPTS, *TIPS.values())
                        if text in table(language)}
             for language in LANGUAGES if language != "en"}
    return f"<script>window.atelierWords = {json.dumps(found)}</script>"


# What the server says


def speak(demo: gr.Blocks) -> None:
    """Turn whatever an event writes into lines of text, and the heads of tables, into the language of its page."""
    for event in demo.fns.values():
        if event.fn is not None and any(is_line(part) or isinstance(part, gr.Dataframe) for part in event.outputs):
            event.fn = _spoken(event.fn, event.outputs)


def is_line(component: Any) -> bool:
    """Whether only the studio writes into a text box."""
    return isinstance(component, gr.Textbox) and "line" in " ".join(component.elem_classes or ()).split()


def _turned(part: Any, value: Any) -> Any:
    if is_line(part):
        return said(value)
    if isinstance(part, gr.Dataframe) and isinstance(value, list):
        return {"headers": [said(each) for each in part.headers], "data": value}
    return value


def _spoken(handler: Callable, outputs: list) -> Callable:
    def turned(result: Any) -> Any:
        if isinstance(result, dict) and result.keys() <= set(outputs):
            return {part: _turned(part, value) for part, value in result.items()}
        if len(outputs) == 1:
            return _turned(outputs[0], result)
        if isinstance(result, tuple | list):
            return [_turned(part, value) for part, value in zip(outputs, result, strict=True)]
        return result

    if inspect.isgeneratorfunction(handler):
        @wraps(handler)
        def stream(*values: Any) -> Iterator[Any]:
            for result in handler(*values):
                yield turned(result)
        return stream

    @wraps(handler)
    def call(*values: Any) -> Any:
        return turned(handler(*values))
    return call


def said(text: Any, language: str | None = None) -> Any:
    """A message in the language of the page whose event is running; what is no text comes back as it is."""
    language = language or current()
    if language == "en" or not isinstance(text, str):
        return text
    return "\n".join(" · ".join(_message(part, language) for part in line.split(" · "))
                     for line in text.split("\n"))


def said_reason(reason: str) -> str:
    """Turn why a picture is not as it should be: a phrase, or a conversion's sentence without field and full stop."""
    turned = said(reason)
    if turned != reason:
        return turned
    whole = said(sentence := f"Picture: {reason}.")
    return reason if whole == sentence else whole.partition(": ")[2].removesuffix(".")


def speaker(language: str) -> Callable[[str], str]:
    """`said` in one language, for what goes on when the event that asked is over."""
    return partial(said, language=language)


def named(values: Iterable[str]) -> list[tuple[str, str]]:
    """Choices for a list: some of the names are ours, and all values stay as they are."""
    return [(said(value), value) for value in values]


def current() -> str:
    """The language of the page whose event is running."""
    request = LocalContext.request.get(None)
    return "en" if request is None else language_of(request.cookies, request.headers)


def language_of(cookies: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """The language of who sends a request: what was chosen, else what the browser asks for."""
    wanted = [cookies.get(COOKIE, ""), *headers.get("accept-language", "").split(",")]
    short = (each.strip().partition(";")[0].partition("-")[0].lower() for each in wanted)
    return next((each for each in short if each in LANGUAGES), "en")


@lru_cache(maxsize=2048)
def _message(text: str, language: str, depth: int = 0) -> str:
    """Find the sentence that a message was made from, and put what stands in it into the other language's one."""
    found = table(language)
    if text in found or depth == MAX_DEPTH or len(text) > MAX_MESSAGE:
        return found.get(text, text)
    for pieces, translation in _sentences(language):
        if parts := _parts(text, pieces):
            first, *between = translation.split("{}")
            parts = [_message(part, language, depth + 1) for part in parts]
            return first + "".join(part + words for part, words in zip(parts, between, strict=True))
    return text


@cache
def _sentences(language: str) -> tuple[tuple[list[str], str], ...]:
    """(what stands around the blanks, translation) of every sentence with blanks.

    The longest first; before them those with an ending of words, because other sentences stand in their blanks.
    """
    found = [(english.split("{}"), translation) for english, translation in table(language).items() if "{}" in english]
    return tuple(sorted(found, key=lambda pair: (len(pair[0][-1]) < ENDING, -sum(map(len, pair[0])))))


def _parts(text: str, pieces: list[str]) -> list[str]:
    """What fills the blanks between the pieces; empty when the text is no such sentence. Takes linear time."""
    first, *between, last = pieces
    at, end = len(first), len(text) - len(last)
    if not (text.startswith(first) and text.endswith(last)):
        return []
    parts = []
    for piece in between:
        found = text.find(piece, at + 1, end)
        if found < 0:
            return []
        parts.append(text[at:found])
        at = found + len(piece)
    return [*parts, text[at:end]] if at < end else []
