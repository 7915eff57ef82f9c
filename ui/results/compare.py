"""Two pictures under one slider: a pinned result, or the source picture, beside the one that is selected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from pipelines.errors import StudioError
from pipelines.studio.studio import Studio

from ..language import said
from ..wiring import QUEUED, QUIET, guarded

if TYPE_CHECKING:
    from .panel import Panel, Shown


@dataclass(frozen=True)
class Comparison:
    """pinned: state, the result that others are compared with, or None. is_open: state, whether the slider shows."""

    slider: gr.ImageSlider
    compare: gr.Button
    pin: gr.Button
    pinned: gr.State
    is_open: gr.State

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What opening and closing changes."""
        return [self.slider, self.is_open]

    def opened(self, left: str, right: str) -> dict:
        """Lay one picture's file over another's, at the size of the right one."""
        with Image.open(left) as before, Image.open(right) as after:
            if before.size != after.size:
                left = save_pil_to_cache(before.convert("RGB").resize(after.size), get_upload_folder(), format="png")
        return {self.slider: gr.ImageSlider((left, right), visible=True), self.is_open: True}

    def closed(self) -> dict:
        """Show the selected picture alone."""
        return {self.slider: gr.ImageSlider(visible=False), self.is_open: False}


def slider(task: str) -> gr.ImageSlider:
    """Build the slider, over the large picture."""
    return gr.ImageSlider(label="Two pictures", show_label=False, interactive=False, visible=False, type="filepath",
                          format="png", buttons=["fullscreen"], elem_classes="before-after",
                          elem_id=f"{task}-before-after")


def buttons(task: str, over: gr.ImageSlider) -> Comparison:
    """Build the two buttons."""
    return Comparison(over, gr.Button("Compare", size="sm", min_width=60, elem_id=f"{task}-compare"),
                      gr.Button("Pin", size="sm", min_width=60, elem_id=f"{task}-pin"), gr.State(None), gr.State(False))


def wire(studio: Studio, panel: Panel, image_id: gr.Textbox | None = None) -> None:
    """Let Pin keep the selected result for comparing, and Compare lay it, or the source picture, over another."""
    made = panel.comparison

    def toggle(is_open: bool, shown: list[Shown], selected: int, pinned: Shown | None, source_id: str = "") -> dict:
        if is_open or not shown:
            return made.closed()
        result = shown[selected]
        if pinned and pinned.key != result.key:
            return made.opened(pinned.path, result.path)
        if source_id:
            before = studio.images.open(source_id).convert("RGB")
            return made.opened(save_pil_to_cache(before, get_upload_folder(), format="png"), result.path)
        others = shown[selected + 1:] or shown[:selected]
        if not others:
            raise StudioError("There is only one picture yet. Make another one to compare it with.")
        return made.opened(others[0].path, result.path)

    def pin(shown: list[Shown], selected: int, pinned: Shown | None) -> tuple[Shown | None, gr.Button]:
        chosen = shown[selected] if shown else None
        if chosen is None or pinned and pinned.key == chosen.key:
            return None, gr.Button(said("Pin"))
        return chosen, gr.Button(said(f"Pinned: {chosen.caption}"))

    inputs = [made.is_open, panel.shown, panel.selected, made.pinned, *([image_id] if image_id is not None else [])]
    made.compare.click(guarded(toggle), inputs, made.outputs, **QUEUED)
    made.pin.click(pin, [panel.shown, panel.selected, made.pinned], [made.pinned, made.pin], **QUIET)
