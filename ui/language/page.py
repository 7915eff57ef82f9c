"""Hands the texts of a built page to Gradio's i18n, and turns what its events write."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, TypeVar

import gradio as gr
from gradio.i18n import I18nData

from ..tooltips import TIPS
from . import LANGUAGES, said, table

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
Marked = TypeVar("Marked")
WRITTEN = (gr.Button, gr.UploadButton, gr.DownloadButton, gr.Markdown)  # components whose value is a text of ours


def mark(demo: gr.Blocks) -> gr.I18n:
    """Replace every text of a built page that has a translation by a key; returns the dictionaries for `launch`."""
    tables = {language: table(language) for language in LANGUAGES if language != "en"}
    translated = set().union(*tables.values())
    keys: dict[str, str] = {}

    def key(text: Marked) -> Marked | str:
        if not isinstance(text, str):
            return text
        short = text.strip()
        if short not in translated:
            return short
        # A text is no good key itself: Gradio takes the first } for the end of its mark.
        return str(I18nData(keys.setdefault(short, f"t{len(keys)}")))

    for block in demo.blocks.values():
        for name in attributes(block):
            setattr(block, name, key(getattr(block, name)))
        if isinstance(block, gr.Dropdown | gr.Radio):
            block.choices = [(key(shown), value) for shown, value in block.choices]
    english = {short: text for text, short in keys.items()}
    return gr.I18n(en=english, **{language: {short: found[text] for short, text in english.items() if text in found}
                                  for language, found in tables.items()})


def attributes(block: gr.blocks.Block) -> list[str]:
    """Names of the attributes of a component that hold text of ours."""
    names = [name for name in SHOWN if isinstance(getattr(block, name, None), str)]
    written = (isinstance(block, WRITTEN) or is_line(block)) and isinstance(getattr(block, "value", None), str)
    return [*names, "value"] if written else names


def words() -> str:
    """What a page's own scripts write, as a script that gives them their translations."""
    found = {language: {text: table(language)[text] for text in (*BY_SCRIPTS, *TIPS.values())
                        if text in table(language)}
             for language in LANGUAGES if language != "en"}
    return f"<script>window.atelierWords = {json.dumps(found)}</script>"


def speak(demo: gr.Blocks) -> None:
    """Turn whatever an event writes into lines of text, and the heads of tables, into the language of its page."""
    for event in demo.fns.values():
        if event.fn is not None and any(is_line(part) or isinstance(part, gr.Dataframe) for part in event.outputs):
            event.fn = _spoken(event.fn, event.outputs)


def is_line(component: gr.blocks.Block) -> bool:
    """Whether only the studio writes into a text box."""
    return isinstance(component, gr.Textbox) and "line" in " ".join(component.elem_classes or ()).split()


def _turned(part: gr.blocks.Block, value: object) -> object:
    if is_line(part):
        return said(value)
    if isinstance(part, gr.Dataframe) and isinstance(value, list):
        return {"headers": [said(each) for each in part.headers], "data": value}
    return value


def _spoken(handler: Callable, outputs: Sequence[gr.blocks.Block]) -> Callable:
    def turned(result: object) -> object:
        if isinstance(result, dict) and result.keys() <= set(outputs):
            return {part: _turned(part, value) for part, value in result.items()}
        if len(outputs) == 1:
            return _turned(outputs[0], result)
        if isinstance(result, tuple | list):
            return [_turned(part, value) for part, value in zip(outputs, result, strict=True)]
        return result

    if inspect.isgeneratorfunction(handler):
        @wraps(handler)
        def stream(*values: Any) -> Iterator[object]:
            for result in handler(*values):
                yield turned(result)
        return stream

    @wraps(handler)
    def call(*values: Any) -> object:
        return turned(handler(*values))
    return call
