"""Image to image."""

from __future__ import annotations

import gradio as gr

from pipelines.requests import Img2Img
from pipelines.studio.studio import Studio

from ..forms import axes, batch_input, controls, presets, source, styles
from ..results import compare
from ..results import panel as results
from ..run import TabRun
from ..tab import Page, Tab


def build(studio: Studio, page: Page) -> None:
    """Build the tab inside the current Blocks."""
    form = controls.Form("img2img", Img2Img, page, studio.resolver.defaults(page.model.value))
    with gr.Row(elem_classes="workspace"):
        lines = controls.ask(form, studio)
        with gr.Column(elem_classes="given", min_width=0):
            given = source.picture(form.task, "Picture to start from")
        with gr.Column(elem_classes="knobs", min_width=0):
            form.add("strength")
            controls.essentials(form, studio)
            with controls.more(form):
                form.add("resize_mode")
                controls.sampling(form)
                controls.loras(form, studio)
                styles.picker(form, studio)
            controls.fine_tuning(form)
            varied = axes.axes(form, studio)
            at_once = batch_input.many(form, with_pictures=True)
            presets.presets(form)
        with gr.Column(elem_classes="results", min_width=0):
            panel = results.panel(form.task, lines, results.hint("Choose a picture, say what it should "
                                                                 "become, and press **Generate**."))
    given.size = form.fields["width"], form.fields["height"]
    source.join(studio, page, form, given)
    compare.wire(studio, panel, given.image_id)
    TabRun(studio, page, form, panel, prepare=source.needed, axes=varied, many=at_once).wire()
    page.forms[form.task], page.panels[form.task] = form, panel


TAB = Tab(name="img2img", label="Image to image", order=20, build=build)
