"""The left side of Train: which pictures, what a run will see of them, and their captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder

from pipelines.errors import StudioError
from pipelines.images.geometry import Size
from pipelines.studio.studio import Studio
from pipelines.training.dataset import crops
from pipelines.training.dataset.buckets import bucket_of
from pipelines.training.dataset.decoding import Encoding
from pipelines.training.dataset.listing import PICTURES, TABLES, TEXTS
from pipelines.training.dataset.picture import Picture
from pipelines.training.dataset.survey import Survey
from pipelines.training.request import Crop, TrainLora

from ...forms.controls import find_card
from ...language import named, said, said_reason
from ...tab import Page
from ...wiring import QUEUED, guarded
from . import captions
from .captions import CaptionEditor, Captions
from .knobs import Knobs, number

SHOWN = 60  # pictures whose crops are shown
SIDE_PX = 320
VERDICTS = ("left out", "mended", "ok")


@dataclass(frozen=True)
class Pictures:
    """The controls of the dataset. used: state, the hashes of the pictures that a run would be trained on."""

    dataset: gr.Dropdown
    trigger: gr.Textbox
    upload: gr.File
    verdict: gr.Textbox
    notes: gr.Textbox
    strip: gr.Gallery
    gallery: gr.Gallery
    captions: Captions
    used: gr.State

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What is filled when a dataset is looked at."""
        return [self.verdict, self.notes, self.strip, self.gallery, *self.captions.outputs, self.used]


def build(studio: Studio, page: Page) -> Pictures:
    """Build the left side inside the current column."""
    gr.Markdown("### 1. Pictures", elem_classes="step")
    names = studio.datasets.names()
    with gr.Row():
        dataset = gr.Dropdown(list(names), value=names[0], label="Dataset", filterable=False, elem_id="train-dataset",
                              info="Pictures that were uploaded before, and an example to try.", min_width=120)
        about = TrainLora.model_fields["trigger"]
        trigger = gr.Textbox("", label=about.title, info=about.description, elem_id="train-trigger", min_width=120)
    upload = gr.File(label="Drop pictures, their captions, or a zip", file_count="multiple", height=128,
                     file_types=[*PICTURES, *TEXTS, *TABLES, ".zip"], type="filepath", elem_id="train-upload")
    verdict = gr.Textbox("", label="What was found", show_label=False, container=False, interactive=False,
                         max_lines=2, elem_classes="line strong", elem_id="train-verdict")
    notes = gr.Textbox("", label="What is not used", show_label=False, container=False, interactive=False, max_lines=4,
                       elem_classes="line", elem_id="train-notes", visible=False)
    strip = gr.Gallery(label="Pictures of the dataset", show_label=False, columns=8, rows=1, allow_preview=False,
                       buttons=[], elem_classes="strip", elem_id="train-pictures", interactive=False)
    with gr.Accordion("Look at every picture and caption", open=False, elem_classes="more", elem_id="train-captions"):
        gallery = gr.Gallery(label="What is learned of each picture; the rest is dark", columns=4, height=280,
                             object_fit="contain", buttons=[], elem_id="train-crops", interactive=False)
        edited = captions.build()
    page.remembered["train.trigger"] = trigger
    return Pictures(dataset, trigger, upload, verdict, notes, strip, gallery, edited, gr.State([]))


def wire(studio: Studio, page: Page, pictures: Pictures, knobs: Knobs) -> None:
    """Let the pictures be looked at, added to, and captioned."""
    DatasetView(studio, page, pictures, knobs).wire()
    CaptionEditor(studio, page, pictures.dataset, pictures.captions).wire()


@dataclass(frozen=True)
class DatasetView:
    """What is shown of the chosen pictures: what a run will see of them as the knobs are set."""

    studio: Studio
    page: Page
    pictures: Pictures
    knobs: Knobs

    def wire(self) -> None:
        """Look whenever the pictures or a knob that cuts them change, and let pictures be added."""
        pictures, fields = self.pictures, self.knobs.fields
        cut = [fields[name] for name in ("buckets", "crop", "masked", "caption_encoding")]
        inputs = [pictures.dataset, self.page.model, fields["resolution"], *cut]
        changes = [each.change for each in (pictures.dataset, *cut)]
        resolution = fields["resolution"]
        assert isinstance(resolution, gr.Textbox)  # a number that may stay empty is typed
        gr.on([*changes, resolution.blur], self.look, inputs, pictures.outputs, trigger_mode="always_last",
              **QUEUED)
        pictures.upload.upload(guarded(self.add), [pictures.upload, fields["name"]],
                               [pictures.dataset, fields["prior_data"], pictures.upload], **QUEUED)
        self.page.returning.append((self.come_back, inputs, [pictures.dataset, *pictures.outputs]))

    def look(self, dataset: str, model: str, resolution: str, buckets: bool, crop: Crop, masked: bool,
             encoding: Encoding) -> tuple:
        """Values of `Pictures.outputs`."""
        card = find_card(self.studio, model)
        try:
            side = int(number("resolution", resolution) or card.native_size)
            found = self.studio.datasets.look(dataset, resolution=side, encoding=encoding,
                                              count_tokens=lambda text: self._count_tokens(text, card.name))
            step = crops.size_step(card)
            sizes = [bucket_of((one.width, one.height), side, step, buckets=buckets) if one.used else None
                     for one in found]
            used = [(one, size) for one, size in zip(found, sizes, strict=True) if size is not None]
            small = [_shown(one, size, crop, masked) for one, size in used[:SHOWN]]
        except (StudioError, OSError, KeyError, TypeError) as error:
            why = str(error) if isinstance(error, StudioError) else "This model cannot be trained here."
            return why, gr.Textbox("", visible=False), [], [], *captions.filled([]), []
        notes = gr.Textbox("\n".join(map(said, found.notes)), visible=bool(found.notes))
        return (_found(found), notes, small, small, *captions.filled(_rows(found, sizes)),
                [one.digest for one, _ in used])

    def add(self, files: list[str] | None, name: str) -> tuple:
        """Make a dataset of what was dropped, and choose it."""
        if not files:
            return (gr.skip(),) * 3
        made = self.studio.datasets.add([Path(file) for file in files], name or "pictures")
        names = named(self.studio.datasets.names())
        return gr.Dropdown(names, value=made), gr.Dropdown([(said("none"), ""), *names]), None

    def come_back(self, *values: Any) -> dict:
        """Look again after a reload. values: as `look` takes them."""
        return {self.pictures.dataset: gr.Dropdown(named(self.studio.datasets.names())),
                **dict(zip(self.pictures.outputs, self.look(*values), strict=True))}

    def _count_tokens(self, text: str, model: str) -> int:
        return self.studio.prompts.tokens(text, model).count


def _rows(found: Survey, sizes: Sequence[Size | None]) -> captions.Rows:
    """The table of the captions; what somebody may want to know of comes first."""
    rows = []
    for one, size in sorted(zip(found, sizes, strict=True), key=lambda pair: VERDICTS.index(pair[0].verdict)):
        verdict = ": ".join(filter(None, (said(one.verdict), "; ".join(map(said_reason, one.reasons)))))
        rows.append([one.name, verdict, f"{size[0]} × {size[1]}" if size else "", str(one.tokens), one.caption])
    return rows


def _found(pictures: Sequence[Picture]) -> str:
    """Such as "24 pictures · 2 mended · 1 left out · 3 with a mask"."""
    used = [picture for picture in pictures if picture.used]
    mended = sum(picture.verdict == "mended" for picture in used)
    left_out, masks = len(pictures) - len(used), sum(picture.has_mask for picture in used)
    blank = sum(not picture.caption for picture in used)
    parts = [f"{len(used)} pictures" if len(used) > 1 else f"{len(used)} picture",
             f"{mended} mended" if mended else "",
             f"{left_out} left out" if left_out else "",
             f"{masks} with a mask" if masks else "",
             f"{blank} without a caption" if blank else ""]
    return " · ".join(filter(None, parts))


def _shown(picture: Picture, size: Size, crop: Crop, masked: bool) -> tuple[str, str]:
    small = crops.shown(picture, size, crop, SIDE_PX, masked=masked)
    return save_pil_to_cache(small, get_upload_folder(), format="webp"), picture.caption[:80] or picture.name[:80]
