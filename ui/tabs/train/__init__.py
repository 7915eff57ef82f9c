"""Train a LoRA: pictures, what and how long, and the run with its curves, samples and weights.

pictures and captions: what is learned from. knobs: how. start: a new run. watch: the run. weights: what came of it.
"""

from __future__ import annotations

import gradio as gr

from pipelines.studio.studio import Studio

from ...tab import Page, Tab
from . import knobs, pictures, watch, weights
from .start import RunStart
from .weights import WeightsUse

SHARED = ("Everybody who can log in here shares the pictures and runs below: all see them, and all can change captions "
          "and pause or stop a run.")


def build(studio: Studio, page: Page) -> None:
    """Build the tab inside the current Blocks; only a sentence where visitors may not train, so that they can call
    nothing of it: not even look at pictures and runs."""
    refusal = studio.training.refusal
    if refusal:
        gr.Markdown(refusal, elem_classes="hint", elem_id="train-refused")
        return
    if studio.settings.is_public:
        gr.Markdown(SHARED, elem_classes="hint", elem_id="train-shared")
    with gr.Row(elem_classes="workspace"):
        with gr.Column(elem_classes="ask", min_width=0):
            data = pictures.build(studio, page)
        with gr.Column(elem_classes=["knobs", "first"], min_width=0):
            form = knobs.build(studio, page)
        with gr.Column(elem_classes="results", min_width=0):
            run = watch.build(studio)
            with run.body:
                made = weights.build()
    pictures.wire(studio, page, data, form)
    knobs.wire(studio, page, form, data.verdict, data.used)
    RunStart(studio, page, data, form, run).wire()
    watch.wire(studio, page, run, made, form.message)
    WeightsUse(studio, page, made).wire(run.run, data.trigger, run.status)


TAB = Tab(name="train", label="Train", order=40, build=build)
