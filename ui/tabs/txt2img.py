"""Text to image."""

from __future__ import annotations

import gradio as gr

from pipelines.requests import Txt2Img
from pipelines.studio.studio import Studio

from ..forms import axes, batch_input, controls, examples, presets, styles
from ..results import compare
from ..results import panel as results
from ..run import TabRun
from ..tab import Page, Tab


def build(studio: Studio, page: Page) -> None:
    """Build the tab inside the current Blocks."""
    form = controls.Form("txt2img", Txt2Img, page, studio.resolver.defaults(page.model.value))
    with gr.Row(elem_classes="workspace"):
        lines = controls.ask(form, studio)
        with gr.Column(elem_classes="knobs", min_width=0):
            controls.essentials(form, studio)
            with controls.more(form):
                controls.sampling(form)
                controls.loras(form, studio)
                styles.picker(form, studio)
            controls.second_pass(form, studio)
            controls.fine_tuning(form)
            varied = axes.axes(form, studio)
            at_once = batch_input.many(form)
            presets.presets(form)
        with gr.Column(elem_classes="results", min_width=0):
            cards: list[examples.Cards] = []
            panel = results.panel(form.task, lines, lambda: cards.append(examples.cards(studio, form)))
    compare.wire(studio, panel)
    TabRun(studio, page, form, panel, axes=varied, many=at_once).wire()
    examples.wire(studio, form, *cards)
    page.forms[form.task], page.panels[form.task] = form, panel


TAB = Tab(name="txt2img", label="Text to image", order=10, build=build)
