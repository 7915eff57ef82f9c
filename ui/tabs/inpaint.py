"""Inpaint: paint over a part of a picture and have only that part drawn again."""

from __future__ import annotations

from typing import Any

import gradio as gr
from PIL import Image

from pipelines.errors import RequestError, StudioError
from pipelines.images.mask import from_editor, from_upload
from pipelines.requests import Inpaint

from .. import controls, progress, results, source
from ..binding import QUIET, bind, guarded
from ..mask_editor import drawing, mask_editor
from ..tab import Page, Receiver, Tab


def build(studio: Any, page: Page) -> None:
    """Build the tab inside the current Blocks."""
    form = controls.Form("inpaint", Inpaint, page, studio.defaults(page.model.value))
    with gr.Row(elem_classes="workspace"):
        with gr.Column(elem_classes="ask", min_width=0):
            controls.prompts(form, studio)
            controls.actions(form)
            lines = progress.status_lines(form.task)
        with gr.Column(elem_classes="given", min_width=0):
            given = _source(form)
            with gr.Row(elem_classes="tools"):
                upload = gr.UploadButton("Upload a mask", size="sm", file_types=[".png", ".jpg", ".jpeg", ".webp"],
                                         type="filepath", elem_id="inpaint-upload-mask")
                clear = gr.Button("Clear mask", size="sm", elem_id="inpaint-clear-mask")
                onward = gr.Button("Use result as source", size="sm", elem_id="inpaint-use-result")
        with gr.Column(elem_classes="knobs", min_width=0):
            _knobs(form, studio)
        with gr.Column(elem_classes="results", min_width=0):
            panel = results.panel(form.task, lines, results.hint(
                "Choose a picture on the left, paint over what should change, say what should be there, and press "
                "**Generate**. Everything else stays exactly as it is."), comparable=True)
    mask_id = form.keep("mask", next(iter(given.others)))
    form.fields["image"] = form.keep("image", given.image_id)
    given.wire(studio)
    results.compare(studio, panel, given.image_id)
    _wire_mask(studio, given, panel, upload, clear, onward)
    page.returning.append((_again(studio, given), [given.image_id, mask_id], given.outputs))
    page.receivers[form.task] = Receiver(lambda path, fields: given.take(studio, path), given.outputs)
    bind(studio, page, form, panel, prepare=_prepare(studio), extra={"drawing": given.view}, echo={"mask": mask_id})
    page.forms[form.task], page.panels[form.task] = form, panel


def _source(form: controls.Form) -> source.Source:
    view = mask_editor(form.task)
    mask_id = source.hidden_text("inpaint-mask-id")
    return source.Source(view, source.hidden_text("inpaint-image-id"), source.note_line(form.task),
                         source.upload_button(form.task), as_view=drawing, others={mask_id: ""})


def _knobs(form: controls.Form, studio: Any) -> None:
    form.add("strength")
    with gr.Row():
        form.add("inpaint_area", min_width=120)
        form.add("masked_content", min_width=120)
    controls.essentials(form, studio)
    with controls.more(form):
        with gr.Row():
            form.add("mask_blur", min_width=120)
            form.add("mask_grow", min_width=120)
        with gr.Row():
            form.add("masked_padding", min_width=120)
            form.add("resize_mode", min_width=120)
        with gr.Row():
            form.add("mask_invert", min_width=120)
            form.add("soft_mask", min_width=120)
        controls.sampling(form)
    with gr.Accordion("Extend the picture", open=False, elem_classes="more", elem_id="inpaint-extend"):
        with gr.Row():
            form.add("outpaint_left", min_width=120)
            form.add("outpaint_right", min_width=120)
        with gr.Row():
            form.add("outpaint_top", min_width=120)
            form.add("outpaint_bottom", min_width=120)


def _prepare(studio: Any):
    def prepare(values: dict[str, Any]) -> dict[str, Any]:
        painted = values.pop("drawing") or {}
        if not values["image"]:
            raise RequestError("Picture: there is none yet. Drop, paste or choose one.", "image")
        mask = from_editor(painted.get("layers") or [], studio.images.open(values["image"]).size)
        values["mask"] = studio.images.add(mask).id if mask.getbbox() else None
        return values

    return prepare


def _wire_mask(studio: Any, given: source.Source, panel: Any, upload: gr.UploadButton, clear: gr.Button,
               onward: gr.Button) -> None:
    def upload_mask(path: str, image_id: str) -> dict:
        if not image_id:
            raise RequestError("Mask: load the picture first, then its mask.", "mask")
        size = studio.images.open(image_id).size
        mask = from_upload(studio.images.open(studio.images.add(path).id), size)
        return drawing(given.small(studio, image_id), mask)

    def clear_mask(image_id: str) -> Any:
        return drawing(given.small(studio, image_id)) if image_id else None

    def use_result(shown: list, selected: int, painted: dict | None, image_id: str) -> dict:
        if not shown:
            raise RequestError("Picture: there is no result yet.", "image")
        layers = (painted or {}).get("layers") or []
        mask = from_editor(layers, _size(layers) or (1, 1))
        update = given.take(studio, shown[selected].path)
        update[given.view] = drawing(update[given.view]["background"], mask if mask.getbbox() else None)
        return update

    upload.upload(guarded(upload_mask), [upload, given.image_id], given.view, **QUIET)
    clear.click(guarded(clear_mask), given.image_id, given.view, **QUIET)
    onward.click(guarded(use_result), [panel.shown, panel.selected, given.view, given.image_id], given.outputs, **QUIET)


def _size(layers: list[Image.Image]) -> tuple[int, int] | None:
    return layers[0].size if layers else None


def _again(studio: Any, given: source.Source):
    """Show the remembered picture after a reload, with the mask of the last run painted on it."""

    def show(image_id: str, mask_id: str) -> dict:
        if not image_id:
            return {}
        try:
            mask = studio.images.open(mask_id) if mask_id else None
            return {given.view: drawing(given.small(studio, image_id), mask)}
        except (StudioError, OSError):
            return given.empty()

    return show


TAB = Tab(name="inpaint", label="Inpaint", order=30, build=build)
