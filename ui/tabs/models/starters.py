"""Models to begin with: a list that stays closed until somebody looks into it. Fetched only when asked for."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from pipelines.downloads.starters import Starter
from pipelines.downloads.starters import starters as listed
from pipelines.studio.studio import Studio

from ...language import said
from ...tab import Page
from ...wiring import QUIET


@dataclass
class Starters:
    """body: what can be opened. choice: value is what the button fetches."""

    body: gr.Accordion
    choice: gr.Radio
    start: gr.Button


def build() -> Starters:
    """Build the list inside the current column."""
    with gr.Accordion("Models to begin with", open=False, elem_classes="starters", elem_id="models-starters") as body:
        choice = gr.Radio([], label="Models to begin with", show_label=False, container=False,
                          elem_id="models-starter")
        start = gr.Button("Download this model", size="lg", variant="primary", elem_id="models-starter-download")
    return Starters(body, choice, start)


def wire(studio: Studio, page: Page, starters: Starters, may_fetch: bool) -> None:
    """Fill the list when the tab is opened; it says what this machine has the memory for."""
    if not may_fetch:  # nobody may fetch here, and the page says why
        starters.body.visible = False
        return

    def show(chosen: str | None) -> gr.Radio:
        return gr.Radio([(line(one), one.source) for one in listed()], value=chosen or listed()[0].source)

    def tell_needs() -> gr.Radio:
        return gr.Radio([(line(one, need), one.source) for one, need in studio.memory.starters()])

    # The memory is told afterwards: in a program that has just begun, it waits for torch.
    page.opened["models"].select(show, starters.choice, starters.choice, **QUIET).then(
        tell_needs, None, starters.choice, **QUIET)


def line(starter: Starter, need: str = "") -> str:
    """Three lines of a choice: what it is called, what it is good for, and what it takes."""
    facts = [f"about {starter.download_gb:.1f} GB to fetch", f"Licence: {starter.licence}", need]
    return "\n".join([starter.name, said(starter.good_for), "\u00a0· ".join(said(fact) for fact in facts if fact)])
