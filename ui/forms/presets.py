"""Presets: the settings of a form under a name, for one model. They lie in the browser of whoever saved them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import gradio as gr

from pipelines.requests import extra_of

from ..tab import Form, Page, Remembered
from ..wiring import QUIET


@dataclass(frozen=True)
class Presets:
    """The controls of one form: the name, and what may be done with it."""

    name: gr.Dropdown
    line: gr.Textbox
    buttons: dict[str, gr.Button] = field(default_factory=dict)


def presets(form: Form) -> None:
    """Build the row of presets of a form."""
    with gr.Accordion("Presets", open=False, elem_classes="more", elem_id=f"{form.task}-presets"):
        name = gr.Dropdown([], value=None, label="Preset", allow_custom_value=True, elem_id=f"{form.task}-preset",
                           info="Choose one to take over its settings, or type a new name and save. Each model has "
                                "its own, kept in this browser.")
        with gr.Row(elem_classes="presets-row"):
            buttons = {what: gr.Button(label, size="sm", min_width=60, elem_id=f"{form.task}-preset-{what}")
                       for what, label in BUTTONS.items()}
        line = gr.Textbox("", label="Message about presets", show_label=False, container=False, interactive=False,
                          max_lines=1, elem_classes="line", elem_id=f"{form.task}-preset-line")
    form.page.presets[form.task] = Presets(name, line, buttons)


BUTTONS = {"save": "Save preset", "default": "Use as default", "delete": "Delete preset"}
DONE = {"save": "Saved as {}.", "default": "{} is taken whenever this model is chosen, and on a new visit.",
        "delete": "Deleted: {}."}


def wire(page: Page, rule: Callable[[str, Remembered], dict]) -> None:
    """Connect all presets. rule: says what a saved value must be to be taken back."""
    for choose in (page.model.input, *(button.click for button, _, _ in page.choosers)):
        choose(None, None, None, js="() => atelier.switching()", **QUIET)
    for task, made in page.presets.items():
        declared = page.forms[task].request.model_fields
        controls = {name: control for name, control in page.forms[task].fields.items()
                    if name not in declared or extra_of(declared[name])["preset"]}
        boxes = list(controls.values())
        rules = json.dumps([rule(name, control) for name, control in controls.items()]).replace("</", "<\\/")

        def call(what: str, task: str = task, rules: str = rules) -> str:
            return f"(...values) => atelier.preset.{what}({json.dumps(task)}, {rules}, ...values)"

        made.name.input(None, [made.name, page.model, *boxes], boxes, js=call("load"), **QUIET)
        made.name.focus(None, [made.name, page.model], made.name, js=call("list"), **QUIET)
        for what, button in made.buttons.items():
            done = button.click(None, [made.name, page.model, *boxes], made.name, js=call(what), **QUIET)
            done.then(_words(DONE[what]), made.name, made.line, **QUIET)
        # The model's own values come first, and with them this box changes.
        page.remembered["model-before"].change(None, [made.name, page.model, *boxes], [made.name, *boxes],
                                               js=call("begin"), **QUIET)


def _words(sentence: str) -> Callable[[str | None], str]:
    return lambda name: sentence.format(name) if name else "A preset needs a name."
