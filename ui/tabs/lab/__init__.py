"""Lab: pages that show how diffusion works, on the loaded checkpoint.

Each page is one file with a LOOK, and they never import each other; lab_page builds them. To add one, see
pipelines/lab/pages.py, and name the file in LOOKS.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from ... import lab_page
from ...tab import Page, Tab
from . import autoencoder, film, noise, words

LOOKS = (film.LOOK, noise.LOOK, autoencoder.LOOK, words.LOOK)


def build(studio: Any, page: Page) -> None:
    """Build the tab inside the current Blocks."""
    with gr.Tabs(elem_id="lab-pages"):
        for look in LOOKS:
            with gr.Tab(look.label, elem_id=f"tab-lab-{look.name}"):
                lab_page.build(look, studio, page)


TAB = Tab(name="lab", label="Lab", order=50, build=build)
