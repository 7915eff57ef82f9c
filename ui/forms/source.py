"""The picture a form starts from: uploaded, dropped, pasted or sent, always kept on the server as it was given.

The page's script catches every file that is dropped on, pasted to or chosen in a `source` component and hands it to
the hidden upload button beside it, so the original reaches the server and not what a canvas made of it. What the
component shows is a small opaque copy; the request carries the id of the stored original.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder

from pipelines.errors import RequestError, StudioError
from pipelines.families import FAMILIES
from pipelines.images.files import SUFFIXES
from pipelines.images.geometry import fitting_size
from pipelines.images.store import proxy
from pipelines.studio.studio import Studio

from ..tab import Form, Page, Receiver
from ..wiring import QUEUED, QUIET, apart, guarded
from .controls import find_card
from .fields import Control


@dataclass
class Source:
    """A picture to start from.

    view: shows the picture. image_id: hidden box with the stored picture's id. note: its size, and what was converted.
    others: what is cleared with a new picture. size: the form's width and height, which follow the picture's shape.
    of_alpha: what is said of a picture with transparent parts.
    """

    view: gr.Image | gr.ImageEditor
    image_id: gr.Textbox
    note: gr.Textbox
    upload: gr.UploadButton
    others: dict[gr.components.Component, object] = field(default_factory=dict)
    size: tuple[Control, Control] | None = None
    of_alpha: str = ""

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What taking another picture may change."""
        return [self.view, self.image_id, self.note, *self.others, *(self.size or ())]

    def take(self, studio: Studio, file: str, model: str | None = None) -> dict:
        """Store a picture file and show it. Raises StudioError for one that cannot be used."""
        stored = studio.images.add(Path(file))
        of_alpha = [self.of_alpha] if self.of_alpha and stored.has_alpha else []
        words = " · ".join([f"{stored.width} × {stored.height} px", *stored.notices, *of_alpha])
        update = {self.view: small_copy(studio, stored.id), self.image_id: stored.id, self.note: words,
                  **self.others}
        if self.size is not None:
            card = find_card(studio, model)
            fitted = fitting_size(card.native_size, stored.width, stored.height, FAMILIES[card.family].grain)
            update |= dict(zip(self.size, fitted, strict=True))
        return update

    def empty(self) -> dict:
        """Forget the picture."""
        return {self.view: None, self.image_id: "", self.note: "", **self.others}

    def wire(self, studio: Studio, model: gr.Dropdown) -> None:
        """Take what the page's script hands to the upload button; forget it when the component is cleared."""

        self.upload.upload(guarded(partial(self.take, studio)), [self.upload, model], self.outputs,
                           **apart(QUEUED, self.note))
        self.view.clear(lambda: ["", "", *self.others.values()], None, [self.image_id, self.note, *self.others],
                        **QUIET)

    def again(self, studio: Studio) -> Callable[[str], dict]:
        """Make the handler that shows the remembered picture after a reload, if it is still stored."""

        def show(image_id: str) -> dict:
            if not image_id:
                return {}
            try:
                return {self.view: small_copy(studio, image_id)}
            except (StudioError, OSError):
                return self.empty()

        return show


def join(studio: Studio, page: Page, form: Form, given: Source,
         again: Callable[..., dict] | None = None, *others: gr.components.Component) -> None:
    """Make a picture the one that a form starts from: sent to the server, remembered, and taken from other tabs.

    again: shows it after a reload, from its id and what `others` hold, where it takes more than the picture.
    """
    form.fields["image"] = form.keep("image", given.image_id)
    given.wire(studio, page.model)
    page.returning.append((again or given.again(studio), [given.image_id, *others], given.outputs))
    page.receivers[form.task] = Receiver(partial(given.take, studio), given.outputs)


def needed(values: dict[str, Any]) -> dict[str, Any]:
    """Return a form's values. Raises RequestError where no picture is chosen."""
    if not values["image"]:
        raise RequestError("Picture: there is none yet. Drop, paste or choose one.", "image")
    return values


def small_copy(studio: Studio, image_id: str) -> str:
    """Path of an opaque copy of at most 1024 px, where the page may read it."""
    return save_pil_to_cache(proxy(studio.images.open(image_id)), get_upload_folder(), format="png")


def hidden_text(name: str) -> gr.Textbox:
    """A value that the page carries and never shows. It must be in the page: else its changes are not noticed."""
    return gr.Textbox("", label=name, visible="hidden", elem_id=name)


def upload_button(task: str) -> gr.UploadButton:
    """The hidden way in: it sends the file's own bytes."""
    with gr.Column(elem_id=f"{task}-upload", elem_classes="source-upload"):
        return gr.UploadButton("Upload", file_types=list(SUFFIXES), type="filepath")


def note_line(task: str) -> gr.Textbox:
    """The line under a source picture."""
    return gr.Textbox("", label="About the picture", show_label=False, container=False, interactive=False,
                      max_lines=2, lines=1, elem_classes="line note", elem_id=f"{task}-note")


def picture(task: str, label: str) -> Source:
    """A plain picture to start from (the mask editor makes its own)."""
    view = gr.Image(label=label, type="filepath", sources=["upload"], interactive=True, format="png", height=240,
                    image_mode=None, buttons=["fullscreen"], elem_classes="source", elem_id=f"{task}-source",
                    placeholder="Drop, paste or click to choose a picture")
    return Source(view, hidden_text(f"{task}-image-id"), note_line(task), upload_button(task))
