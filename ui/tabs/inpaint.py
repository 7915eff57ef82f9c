"""Inpaint: paint over a part of a picture and have only that part drawn again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image, ImageChops

from pipelines.errors import RequestError, StudioError
from pipelines.images.files import SUFFIXES
from pipelines.images.mask import from_upload, size_notice
from pipelines.requests import Inpaint
from pipelines.studio.studio import Studio

from ..forms import controls, presets, source, styles
from ..forms.mask_editor import LAYERS_ONLY, layer_files, mask_editor, painted_mask, tinted
from ..results import compare
from ..results import panel as results
from ..run import TabRun
from ..tab import Page, Tab
from ..wiring import QUEUED, apart, guarded

OF_ALPHA = "Parts of it are transparent: \"Transparency is the mask\" draws them again."


def build(studio: Studio, page: Page) -> None:
    """Build the tab inside the current Blocks."""
    form = controls.Form("inpaint", Inpaint, page, studio.resolver.defaults(page.model.value))
    with gr.Row(elem_classes="workspace"):
        lines = controls.ask(form, studio)
        with gr.Column(elem_classes="given", min_width=0):
            given, mask = _source(form)
            with gr.Row(elem_classes="tools"):
                upload = gr.UploadButton("Upload a mask", size="sm", file_types=list(SUFFIXES),
                                         type="filepath", elem_id="inpaint-upload-mask")
                clear = gr.Button("Clear mask", size="sm", elem_id="inpaint-clear-mask")
                onward = gr.Button("Use result as source", size="sm", elem_id="inpaint-use-result")
        with gr.Column(elem_classes="knobs", min_width=0):
            _knobs(form, studio)
        with gr.Column(elem_classes="results", min_width=0):
            panel = results.panel(form.task, lines, results.hint(
                "Choose a picture, paint over what should change, say what should be there, and press "
                "**Generate**. Everything else stays exactly as it is."))
    form.keep("mask", mask.last)
    given.size = form.fields["width"], form.fields["height"]
    source.join(studio, page, form, given, _again(studio, given, mask), mask.last)
    compare.wire(studio, panel, given.image_id)
    _wire_mask(studio, given, mask, panel, upload, clear, onward)
    TabRun(studio, page, form, panel, prepare=_prepare(studio), extra={"painted": mask.painted, "kept": mask.kept},
           echo={"mask": mask.last}, before=partial(_hand_over, given, mask)).wire()
    page.forms[form.task], page.panels[form.task] = form, panel


@dataclass(frozen=True)
class Mask:
    """What is masked. painted: the files of the editor's layers, handed over before each event that needs them.

    kept: id of a mask that came from elsewhere, to which painted strokes are added. last: id of the mask of the last
    run, which is kept after a reload.
    """

    painted: gr.File
    kept: gr.Textbox
    last: gr.Textbox


def _source(form: controls.Form) -> tuple[source.Source, Mask]:
    view = mask_editor(form.task)
    kept, last = source.hidden_text("inpaint-kept-mask"), source.hidden_text("inpaint-last-mask")
    mask = Mask(layer_files(form.task), kept, last)
    return source.Source(view, source.hidden_text("inpaint-image-id"), source.note_line(form.task),
                         source.upload_button(form.task), others={mask.kept: "", mask.last: ""},
                         of_alpha=OF_ALPHA), mask


def _knobs(form: controls.Form, studio: Studio) -> None:
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
            form.add("transparent_mask", min_width=120)
        controls.sampling(form)
        controls.loras(form, studio)
        styles.picker(form, studio)
    with gr.Accordion("Extend the picture", open=False, elem_classes="more", elem_id="inpaint-extend"):
        with gr.Row():
            form.add("outpaint_left", min_width=120)
            form.add("outpaint_right", min_width=120)
        with gr.Row():
            form.add("outpaint_top", min_width=120)
            form.add("outpaint_bottom", min_width=120)
    controls.fine_tuning(form)
    presets.presets(form)


def _whole_mask(studio: Studio, painted: list | None, kept: str, size: tuple[int, int]) -> Image.Image | None:
    """Join what is painted with the kept mask. L, or None when nothing is masked."""
    mask = painted_mask(painted, size)
    if kept:
        mask = ImageChops.lighter(mask, studio.images.open(kept, "mask").convert("L").resize(size))
    return mask if mask.getbbox() else None


def _prepare(studio: Studio) -> Callable[[dict], dict]:
    def prepare(values: dict[str, Any]) -> dict[str, Any]:
        painted, kept = values.pop("painted"), values.pop("kept")
        picture = studio.images.open(source.needed(values)["image"])
        mask = _whole_mask(studio, painted, kept, picture.size)
        values["mask"] = studio.images.add(mask, "mask").id if mask else None
        return values

    return prepare


def _wire_mask(studio: Studio, given: source.Source, mask: Mask, panel: results.Panel, upload: gr.UploadButton,
               clear: gr.Button, onward: gr.Button) -> None:
    boxes = [given.view, mask.kept, mask.last]

    def upload_mask(path: str, image_id: str) -> tuple:
        if not image_id:
            raise RequestError("Mask: load the picture first, then its mask.", "mask")
        stored, picture = studio.images.add(Path(path), "mask"), studio.images.get(image_id)
        size = picture.width, picture.height
        whole = from_upload(studio.images.open(stored.id, "mask"), size, soft=True)
        kept = studio.images.add(whole, "mask").id
        words = [f"{size[0]} × {size[1]} px", *stored.notices, *size_notice((stored.width, stored.height), size)]
        return _shown(studio, image_id, kept), kept, kept, " · ".join(words)

    def clear_mask(image_id: str) -> tuple:
        return (_shown(studio, image_id, "") if image_id else None), "", ""

    def use_result(shown: list, selected: int, painted: list | None, kept: str) -> dict:
        if not shown:
            raise RequestError("Picture: there is no result yet.", "image")
        update = given.take(studio, shown[selected].path)
        image_id = update[given.image_id]
        whole = _whole_mask(studio, painted, kept, studio.images.open(image_id).size)
        kept = studio.images.add(whole, "mask").id if whole else ""
        return {**update, given.view: _shown(studio, image_id, kept), mask.kept: kept, mask.last: kept}

    apart_from_editor = apart(QUEUED, given.note)
    upload.upload(guarded(upload_mask), [upload, given.image_id], [*boxes, given.note], **apart_from_editor)
    clear.click(guarded(clear_mask), given.image_id, boxes, **apart_from_editor)
    _hand_over(given, mask, onward).then(guarded(use_result), [panel.shown, panel.selected, mask.painted, mask.kept],
                                         given.outputs, **apart_from_editor)


def _hand_over(given: source.Source, mask: Mask, button: gr.Button) -> gr.events.Dependency:
    """On a click, let the page send what is painted; the event that works with it comes after."""
    return button.click(None, given.view, mask.painted, js=LAYERS_ONLY, show_progress="hidden")


def _shown(studio: Studio, image_id: str, kept: str) -> str:
    """Path of what the editor shows: the small copy, with the kept mask tinted."""
    path = source.small_copy(studio, image_id)
    if not kept:
        return path
    with Image.open(path) as picture:
        shown = tinted(picture, studio.images.open(kept, "mask"))
    return save_pil_to_cache(shown, get_upload_folder(), format="png")


def _again(studio: Studio, given: source.Source, mask: Mask) -> Callable[[str, str], dict]:
    """Show the remembered picture after a reload, with the mask of the last run."""

    def show(image_id: str, last: str) -> dict:
        if not image_id:
            return {}
        try:
            return {given.view: _shown(studio, image_id, last), mask.kept: last}
        except (StudioError, OSError):
            return given.empty()

    return show


TAB = Tab(name="inpaint", label="Inpaint", order=30, build=build)
