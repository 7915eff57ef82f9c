"""Lab: pages that show how diffusion works, on the loaded checkpoint.

Each page is one file with a LOOK, and they never import each other; page.py builds them. To add one, see
pipelines/lab/page_requests.py, and name the file in LOOKS.
"""

from __future__ import annotations

import gradio as gr

from pipelines.studio.studio import Studio

from ...tab import Page, Tab
from ...wiring import QUIET
from . import page as lab_page
from .pages import autoencoder, film, finetune, guide, lora, memory, noise, sample, train, words

LOOKS = tuple(page.LOOK for page in (film, noise, autoencoder, words, train, sample, finetune, guide, lora, memory))


def build(studio: Studio, page: Page) -> None:
    """Build the tab inside the current Blocks."""
    with gr.Tabs(elem_id="lab-pages") as pages:
        for look in LOOKS:
            with gr.Tab(look.label, id=look.name, elem_id=f"tab-lab-{look.name}"):
                lab_page.build(look, studio, page)
    pages.select(None, js="() => atelier.noteLabPage()", **QUIET)


TAB = Tab(name="lab", label="Lab", order=50, build=build)
