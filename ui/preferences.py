"""Small conveniences of the page: the first-visit guide, and the panel behind "?" with shortcuts and choices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from .language import LANGUAGES
from .tab import Page
from .wiring import QUIET

HELP = "help-panel"
GUIDE = """
1. **Write** what the picture should show, or take one of the examples.
2. **Generate.** The first picture may take a little longer, while the model is loaded.
3. **Go on** with a picture: the buttons under it send it to the other tabs, with all its settings.
"""
SHORTCUTS = """
| Key | What it does |
|---|---|
| Ctrl + Enter | generates, from any box |
| Ctrl + ↑, Ctrl + ↓ | makes the selected words of a prompt, or the word at the cursor, count more or less |
| ↑, ↓ | in the first or last line of a prompt: brings back earlier prompts |
| ? | opens this panel |
| Esc | closes it |
"""


def guide() -> None:
    """Build the guide's row. The page's script shows it on the first visit only."""
    with gr.Row(elem_classes="guide", elem_id="guide"):
        gr.Markdown(GUIDE.strip(), elem_classes="steps")
        done = gr.Button("Got it", size="sm", min_width=80, elem_id="guide-done")
    done.click(None, None, None, js="() => atelier.guideSeen()", **QUIET)


def help_button() -> None:
    """Build the button that opens the panel."""
    opener(gr.Button("?", size="sm", min_width=32, elem_classes="help-open", elem_id="help-open"), HELP)


def help_panel(demo: gr.Blocks, page: Page) -> None:
    """Build the panel: keys, what a page does when a long run ends, its language and its look."""
    with panel(HELP, "Help"):
        gr.Markdown(SHORTCUTS.strip(), elem_classes="shortcuts")
        with gr.Row():
            notify = gr.Checkbox(False, label="Notify when a long run ends", elem_id="page-notify", min_width=120,
                                 info="Shows a message of the system if this page is not in sight by then.")
            sound = gr.Checkbox(False, label="Sound when a long run ends", elem_id="page-sound", min_width=120,
                                info="Plays two short tones when a run of more than ten seconds ends.")
        with gr.Row():
            language = gr.Dropdown([("As the browser says", ""), *((name, code) for code, name in LANGUAGES.items())],
                                   value="", label="Language", filterable=False, elem_id="page-language", min_width=120,
                                   info="Of this page. Prompts and the settings written into pictures stay as they "
                                        "are.")
            look = gr.Dropdown([("As the system", ""), ("Light", "light"), ("Dark", "dark")], value="",
                               label="Appearance", filterable=False, elem_id="page-look", min_width=120,
                               info="Of this page in this browser. The page is loaded again.")
        again = gr.Button("Show the guide again", size="sm", elem_id="guide-again")
    page.remembered["notify"], page.remembered["sound"] = notify, sound
    for box in (notify, sound):
        box.input(None, box, box, js="(on) => atelier.allow(on)", **QUIET)
    language.input(None, language, None, js="(code) => atelier.speak(code)", **QUIET)
    look.input(None, look, None, js="(look) => atelier.appear(look)", **QUIET)
    demo.load(None, None, [language, look], js="() => [atelier.chosenLanguage(), atelier.chosenLook()]", **QUIET)
    again.click(None, None, None, js="() => atelier.guideAgain()", **QUIET)


@contextmanager
def panel(elem_id: str, title: str) -> Iterator[None]:
    """Build what lies over the page when it is asked for. Escape, a click beside it and Close put it away."""
    with gr.Column(elem_id=elem_id, elem_classes="sheet", min_width=0):
        with gr.Row(elem_classes="sheet-head"):
            gr.Markdown(f"### {title}")
            close = gr.Button("Close", size="sm", min_width=60, elem_classes="sheet-close")
        yield
    close.click(None, None, None, js=f"() => atelier.shut({json.dumps(elem_id)})", **QUIET)


def opener(button: gr.Button, elem_id: str) -> None:
    """Let a button open a panel."""
    button.click(None, None, None, js=f"() => atelier.open({json.dumps(elem_id)})", **QUIET)
