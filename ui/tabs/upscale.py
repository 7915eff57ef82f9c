"""Upscale: enlarge a picture and have its detail drawn again, tile by tile."""

from __future__ import annotations

from typing import Any

import gradio as gr

from pipelines.errors import StudioError
from pipelines.requests import Upscale
from pipelines.studio.studio import Studio

from ..forms import axes, batch_input, controls, presets, source, styles
from ..results import compare
from ..results import panel as results
from ..run import TabRun
from ..tab import Page, Tab
from ..wiring import QUIET


def build(studio: Studio, page: Page) -> None:
    """Build the tab inside the current Blocks."""
    form = controls.Form("upscale", Upscale, page, studio.resolver.defaults(page.model.value))
    with gr.Row(elem_classes="workspace"):
        lines = controls.ask(form, studio)
        with gr.Column(elem_classes="given", min_width=0):
            given = source.picture(form.task, "Picture to enlarge")
        with gr.Column(elem_classes="knobs", min_width=0):
            size = _knobs(form, studio)
            with controls.more(form):
                controls.sampling(form)
                controls.loras(form, studio)
                styles.picker(form, studio)
            controls.fine_tuning(form)
            varied = axes.axes(form, studio)
            at_once = batch_input.many(form, with_pictures=True)
            presets.presets(form)
        with gr.Column(elem_classes="results", min_width=0):
            panel = results.panel(form.task, lines, results.hint(
                "Choose a picture and press **Generate**. It is enlarged, and fine detail is drawn into "
                "it. The prompt may stay empty; words about the whole picture and its style help."))
    source.join(studio, page, form, given)
    compare.wire(studio, panel, given.image_id)
    _tell_size(studio, form, size)
    TabRun(studio, page, form, panel, prepare=source.needed, axes=varied, many=at_once).wire()
    page.forms[form.task], page.panels[form.task] = form, panel


def _knobs(form: controls.Form, studio: Studio) -> gr.Textbox:
    """The controls that stay in sight; returns the line that says how large the result will be."""
    form.add("scale")
    size = gr.Textbox("", label="Size of the result", show_label=False, container=False, interactive=False,
                      max_lines=1, elem_classes="line right", elem_id="upscale-size")
    form.add("redraw")
    form.add("strength")
    with gr.Row():
        form.add("steps", min_width=120)
        form.add("guidance_scale", min_width=120)
    with gr.Row():
        controls.seed(form)
        form.add("batch_count", min_width=100, scale=2)
    with gr.Accordion("Tiles and size", open=False, elem_classes="more", elem_id="upscale-tiles"):
        upscaler = form.add("upscaler", choices=list(studio.upscalers.names()))
        assert isinstance(upscaler, gr.Dropdown)  # a field with choices is one
        upscaler.focus(lambda: gr.Dropdown(choices=list(studio.upscalers.names())), None, upscaler, **QUIET)
        with gr.Row():
            form.add("tile", min_width=120, placeholder="the model's own")
            form.add("overlap", min_width=120)
        with gr.Row():
            form.add("width", min_width=120, value=None, placeholder="by the scale")
            form.add("height", min_width=120, value=None, placeholder="by the scale")
    return size


def _tell_size(studio: Studio, form: controls.Form, line: gr.Textbox) -> None:
    """Say under the scale how large the result will be."""
    names = ("image", "scale", "width", "height")

    def tell(*values: Any) -> str:
        image, scale, width, height = values
        if not image:
            return ""
        try:
            stored = studio.images.get(image)
            asked = Upscale(image=image, scale=scale, width=width or None, height=height or None)
            scale = studio.resolver.scale_of(asked)
        except StudioError as error:
            return str(error)
        except ValueError:  # half typed
            return ""
        wide, high = Upscale(scale=scale).enlarged((stored.width, stored.height))
        return f"{stored.width} × {stored.height} px becomes {wide} × {high} px"

    gr.on([form.fields[name].change for name in names], tell, [form.fields[name] for name in names], line,
          trigger_mode="always_last", **QUIET)


TAB = Tab(name="upscale", label="Upscale", order=35, build=build)
