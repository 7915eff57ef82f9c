"""Text to image."""

from __future__ import annotations

from typing import Any

import gradio as gr

from pipelines.requests import Txt2Img

from .. import axes, compare, controls, examples, many, presets, progress, results, styles
from ..binding import bind
from ..tab import Page, Tab


def build(studio: Any, page: Page) -> None:
    """Build the tab inside the current Blocks."""
    form = controls.Form("txt2img", Txt2Img, page, studio.defaults(page.model.value))
    with gr.Row(elem_classes="workspace"):
        with gr.Column(elem_classes="ask", min_width=0):
            controls.prompts(form, studio)
            controls.actions(form)
            lines = progress.status_lines(form.task)
        with gr.Column(elem_classes="knobs", min_width=0):
            controls.essentials(form, studio)
            with controls.more(form):
                controls.sampling(form)
                controls.loras(form, studio)
                styles.picker(form, studio)
            controls.second_pass(form, studio)
            controls.fine_tuning(form)
            varied = axes.axes(form, studio)
            at_once = many.many(form)
            presets.presets(form)
        with gr.Column(elem_classes="results", min_width=0):
            cards: list[tuple[gr.Button, dict]] = []
            panel = results.panel(form.task, lines, lambda: cards.extend(examples.cards(studio, form.task)))
    compare.wire(studio, panel)
    bind(studio, page, form, panel, axes=varied, many=at_once)
    for button, example in cards:
        _wire(form, button, example)
    page.forms[form.task], page.panels[form.task] = form, panel


def _wire(form: controls.Form, button: gr.Button, example: dict[str, Any]) -> None:
    """Let an example fill the form, then press Generate as a person would."""
    filled = {form.fields[name]: value for name, value in example.items() if name in form.fields}
    values = list(filled.values())
    button.click(lambda: values if len(values) > 1 else values[0], None, list(filled), queue=False,
                 show_progress="hidden", api_visibility="private").then(None, js="() => atelier.generate()")


TAB = Tab(name="txt2img", label="Text to image", order=10, build=build)
