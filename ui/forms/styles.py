"""Styles: saved pieces of prompt, picked in every form; their owner edits them in one place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.errors import StudioError
from pipelines.prompts.styles import MARK, Style, read
from pipelines.studio.studio import Studio

from ..preferences import opener, panel
from ..tab import Form, Page
from ..wiring import QUEUED, QUIET, problem

EDITOR = "styles-editor"


def picker(form: Form, studio: Studio) -> None:
    """Build the list of styles, with a button to the editor where it may be used."""
    with gr.Row(elem_classes="level"):
        names = form.add("styles", choices=_names(studio), allow_custom_value=True, scale=4, min_width=120)
        if not studio.settings.is_public:
            opener(gr.Button("Edit styles", size="sm", scale=1, min_width=80, elem_id=f"{form.task}-edit-styles"),
                   EDITOR)
    assert isinstance(names, gr.Dropdown)  # a field with several choices is one
    names.focus(lambda: gr.Dropdown(choices=_names(studio)), None, names, **QUIET)


def editor(studio: Studio, page: Page) -> None:
    """Build the editor, once for all forms. Others than the owner get none, and the studio refuses them as well."""
    if studio.settings.is_public:
        return
    with panel(EDITOR, "Styles"):
        with gr.Row():
            known = gr.Dropdown(_names(studio), value=None, label="Style", filterable=True, min_width=120,
                                elem_id="style-known", info="Shows a saved style, to read or to change it.")
            name = gr.Textbox("", label="Name", max_lines=1, min_width=120, elem_id="style-name",
                              info="Under this name the style is saved; an existing one is replaced.")
        prompt = gr.Textbox("", label="Prompt of the style", lines=3, max_lines=8, elem_id="style-prompt",
                            info=f"Goes behind what is typed, or around it where {MARK} stands.")
        negative = gr.Textbox("", label="Negative prompt of the style", lines=2, max_lines=6,
                              elem_id="style-negative", info=f"The same for the negative prompt; {MARK} works too.")
        with gr.Row():
            save = gr.Button("Save", variant="primary", size="sm", min_width=60, elem_id="style-save")
            delete = gr.Button("Delete", size="sm", min_width=60, elem_id="style-delete")
            upload = gr.UploadButton("Add from a styles.csv", size="sm", file_types=[".csv"], type="filepath",
                                     min_width=120, elem_id="style-upload")
        line = gr.Textbox("", label="Message about styles", show_label=False, container=False, interactive=False,
                          max_lines=2, elem_classes="line strong", elem_id="style-line")
    pickers = [form.fields["styles"] for form in page.forms.values() if "styles" in form.fields]
    boxes = [name, prompt, negative]

    def show(chosen: str | None) -> list[str]:
        style = next((style for style in studio.styles.all() if style.name == chosen), Style(""))
        return [style.name, style.prompt, style.negative_prompt]

    def listed(words: str, value: str | None = None) -> list:
        choices = _names(studio)
        return [words, gr.Dropdown(choices=choices, value=value), *(gr.Dropdown(choices=choices) for _ in pickers)]

    def keep(name: str, prompt: str, negative: str) -> list:
        studio.styles.save(Style(name.strip(), prompt, negative))
        return listed(f"Saved as {name.strip()}.", name.strip())

    def forget(name: str) -> list:
        studio.styles.named([name])
        studio.styles.delete(name)
        return [*listed(f"Deleted: {name}. The file before stays beside it as styles.csv.bak."), *show(None)]

    def take(file: str) -> list:
        found = read(Path(file))
        studio.styles.save(*found)
        return listed("1 style added." if len(found) == 1 else f"{len(found)} styles added.")

    known.input(show, known, boxes, **QUIET)
    shown = [line, known, *pickers]
    save.click(_told(keep, shown), boxes, shown, **QUEUED)
    delete.click(_told(forget, [*shown, *boxes]), name, [*shown, *boxes], **QUEUED)
    upload.upload(_told(take, shown), upload, shown, **QUEUED)


def _told(handler: Callable, outputs: list) -> Callable:
    """Say an error on the panel's own line, the first output: a toast would lie behind the panel."""

    def call(*values: Any) -> list:
        try:
            return handler(*values)
        except Exception as error:
            return [problem(error), *[gr.skip()] * (len(outputs) - 1)]

    return call


def _names(studio: Studio) -> list[str]:
    try:
        return [style.name for style in studio.styles.all()]
    except StudioError:  # said where a style is used; a list has no place for it
        return []
