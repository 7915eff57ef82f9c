"""Models: everything that lies in the model folders, to look at, to choose, and to fetch."""

from __future__ import annotations

import gradio as gr

from pipelines.studio.studio import Studio

from ...tab import Page, Tab
from . import details, fetch, shelf, starters


def build(studio: Studio, page: Page) -> None:
    """Build the tab inside the current Blocks."""
    with gr.Row(elem_classes="workspace models"):
        with gr.Column(elem_classes="ask", min_width=0):
            shown = details.build()
        with gr.Column(elem_classes="knobs", min_width=0):
            downloads = fetch.build(studio)
        with gr.Column(elem_classes="results", min_width=0):
            made: list[starters.Starters] = []
            listed = shelf.build(lambda: made.append(starters.build()))
    details.wire(studio, page, shown, listed)
    shelf.wire(studio, page, listed)
    fetch.wire(studio, page, downloads, listed, made[0])
    starters.wire(studio, page, made[0], may_fetch=downloads is not None)


TAB = Tab(name="models", label="Models", order=60, build=build)
