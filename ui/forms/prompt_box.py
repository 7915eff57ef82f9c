"""What stands around a prompt box: how many tokens each chunk takes, what does not fit, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from pipelines.demo.words import Strange
from pipelines.prompts.tokens import Tokens
from pipelines.requests import MAX_PROMPT
from pipelines.studio.studio import Studio

from ..language import said
from ..tab import Form
from ..wiring import QUIET

SHOWN_CHUNKS = 4  # with more, only the last one's tokens are told
SHOWN_FAULTS = 3
SHOWN_WORDS = 6


def watch(form: Form, studio: Studio, name: str, box: gr.Textbox) -> None:
    """Build the lines around a box, inside the current column, and keep them true while somebody types."""
    label, place = form.request.model_fields[name].title or name, f"{form.task}-{name}"
    line: dict[str, Any] = {"show_label": False, "container": False, "interactive": False, "max_lines": 2}
    count = gr.Textbox("", label=f"{label}: tokens", elem_classes="line right tokens", elem_id=f"{place}-tokens",
                       **{**line, "max_lines": 1})
    cut = gr.Textbox("", label=f"{label}: the part that does not fit", visible=False, elem_classes="line cut",
                     elem_id=f"{place}-cut", **line)
    faults = gr.Textbox("", label=f"{label}: what is wrong with it", visible=False, elem_classes="line faults",
                        elem_id=f"{place}-faults", **line)
    marks = gr.Textbox("", label=f"{label}: marks", visible="hidden", elem_id=f"{place}-marks")
    look = _looker(studio)
    shown: list[gr.blocks.Block] = [count, cut, faults, marks]
    if name == "prompt":  # a negative one names what is not to be drawn
        look, shown = _both(look, _stranger(studio)), [*shown, *_untaught(place, label)]
    gr.on([box.change, form.page.model.change], look, [box, form.page.model], shown, trigger_mode="always_last",
          **QUIET)
    marks.change(None, marks, None, js=f"(said) => atelier.mark({json.dumps(place)}, said)", **QUIET)


def _untaught(place: str, label: str) -> tuple[gr.Row, gr.Textbox]:
    """Build the line about words that the model was not taught, with the way to models that know more."""
    with gr.Row(visible=False, elem_classes="untaught", elem_id=f"{place}-untaught") as row:
        line = gr.Textbox("", label=f"{label}: words that the model was not taught", show_label=False, container=False,
                          interactive=False, max_lines=5, elem_classes="line")
        models = gr.Button("Other models", size="sm", min_width=60, elem_id=f"{place}-models")
    models.click(None, js="() => atelier.turnTo('models', 'Models')", **QUIET)
    return row, line


def _both(first: Callable, second: Callable) -> Callable:
    return lambda *values: (*first(*values), *second(*values))


def _stranger(studio: Studio) -> Callable:
    def look(text: str, model: str) -> tuple[gr.Row, str]:
        found = studio.prompts.strange((text or "")[:MAX_PROMPT], model)
        return gr.Row(visible=bool(found.untaught)), untaught_line(found)

    return look


def untaught_line(found: Strange) -> str:
    """Such as "Not taught: hill, sunset. Nearest: snow-capped mountain, sun."; "" when everything was taught."""
    if not found.untaught:
        return ""
    more = " ..." if len(found.untaught) > SHOWN_WORDS else ""
    words = ", ".join(found.untaught[:SHOWN_WORDS]) + more
    if found.near:
        return f"Not taught: {words}. Nearest: {', '.join(found.near)}."
    return f"Not taught: {words}. This model knows things such as {', '.join(found.some)}."


def _looker(studio: Studio) -> Callable:
    def look(text: str, model: str) -> tuple[str, gr.Textbox, gr.Textbox, str]:
        if not text:
            return "", gr.Textbox("", visible=False), gr.Textbox("", visible=False), ""
        read = text[:MAX_PROMPT]
        tokens, found = studio.prompts.tokens(read, model), studio.prompts.marks(read)
        faults = list(dict.fromkeys(mark.why for mark in found))[:SHOWN_FAULTS]
        if len(text) > MAX_PROMPT:
            faults.insert(0, f"{len(text):,} characters are too many. At most {MAX_PROMPT:,}.")
        places = {"text": read, "marks": [[mark.start, mark.end] for mark in found]} if found else {}
        return (count_line(tokens) if tokens.limit else "", gr.Textbox(tokens.cut, visible=bool(tokens.cut)),
                gr.Textbox(" · ".join(map(said, faults)), visible=bool(faults)),
                json.dumps(places, ensure_ascii=False) if places else "")

    return look


def count_line(tokens: Tokens) -> str:
    """Such as "12/75", or with several chunks "75 + 13 = 88/150"."""
    total = f"{tokens.count}/{tokens.limit}"
    if len(tokens.chunks) < 2:
        return total
    if len(tokens.chunks) <= SHOWN_CHUNKS:
        return f"{' + '.join(map(str, tokens.chunks))} · {total}"
    return f"{len(tokens.chunks) - 1} chunks + {tokens.chunks[-1]} · {total}"
