"""The left side of Train: which pictures, what a run will see of them, and their captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder

from pipelines.errors import RequestError, StudioError, quoted
from pipelines.training.dataset import crops
from pipelines.training.dataset.buckets import bucket_of
from pipelines.training.dataset.captions import histogram, replaced
from pipelines.training.dataset.listing import PICTURES, TABLES, TEXTS
from pipelines.training.dataset.picture import Picture
from pipelines.training.request import TrainLora

from ...forms.controls import find_card
from ...forms.fields import make_control
from ...language import named, said
from ...tab import Page
from ...wiring import QUEUED, guarded
from .knobs import number

SHOWN = 60  # pictures whose crops are shown
SIDE_PX = 320
TAGS = 200
HEADERS = ["picture", "verdict", "trained at", "tokens", "caption"]
WIDTHS = ["19%", "29%", "14%", "14%", "24%"]
VERDICTS = ("left out", "mended", "ok")
TOKENS, CAPTION = HEADERS.index("tokens"), HEADERS.index("caption")
Rows = list[list[str]]


def build(studio: Any, page: Page) -> dict[str, gr.components.Component]:
    gr.Markdown("### 1. Pictures", elem_classes="step")
    names = studio.datasets.names()
    with gr.Row():
        dataset = gr.Dropdown(list(names), value=names[0], label="Dataset", filterable=False, elem_id="train-dataset",
                              info="Pictures that were uploaded before, and an example to try.", min_width=120)
        trigger = make_control(TrainLora.model_fields["trigger"], "trigger", "train-trigger", "", min_width=120)
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
        table = gr.Dataframe(headers=HEADERS, datatype="str", type="array", column_count=(len(HEADERS), "fixed"),
                             static_columns=list(range(CAPTION)), wrap=True, max_height=320, buttons=[],
                             column_widths=WIDTHS,
                             label="Captions can be typed over", elem_id="train-table")
        tags = gr.Dataframe(headers=["tag", "captions"], datatype=["str", "number"], type="array", interactive=False,
                            column_count=(2, "fixed"), max_height=200, wrap=True, buttons=[], elem_id="train-tags",
                            column_widths=["74%", "26%"],
                            label="Tags, by how many captions have them; click one to find it")
        with gr.Row():
            find = gr.Textbox("", label="Find in captions", elem_id="train-find", min_width=100,
                              info="Words to look for in every caption.")
            put = gr.Textbox("", label="Replace with", elem_id="train-replace", min_width=100,
                             info="Nothing takes what was found away.")
        with gr.Row():
            swap = gr.Button("Replace in all", size="sm", elem_id="train-swap", min_width=60)
            undo = gr.Button("Undo", size="sm", elem_id="train-undo", min_width=60)
    page.remembered["train.trigger"] = trigger
    return {"dataset": dataset, "trigger": trigger, "upload": upload, "verdict": verdict, "notes": notes,
            "strip": strip, "gallery": gallery, "table": table, "tags": tags, "find": find, "put": put, "swap": swap,
            "undo": undo, "rows": gr.State([]), "undone": gr.State([]), "used": gr.State([])}


def wire(studio: Any, page: Page, data: dict, form: dict) -> None:
    shown = [data[name] for name in ("verdict", "notes", "strip", "gallery", "table", "tags", "rows", "undone", "used")]
    inputs = [data["dataset"], page.model, form["resolution"], form["buckets"], form["crop"], form["masked"],
              form["caption_encoding"]]

    def look(dataset: str, model: str, resolution: str, buckets: bool, crop: str, masked: bool,
             encoding: str) -> tuple:
        card = find_card(studio, model)
        try:
            side = number("resolution", resolution) or card.native_size
            found = studio.datasets.look(dataset, resolution=side, encoding=encoding,
                                         count_tokens=lambda text: studio.prompts.tokens(text, card.name).count)
            step = crops.size_step(card)
            sizes = [bucket_of((one.width, one.height), side, step, buckets=buckets) if one.used else None
                     for one in found]
            used = [pair for pair in zip(found, sizes, strict=True) if pair[0].used]
            small = [_shown(one, size, crop, masked) for one, size in used[:SHOWN]]
        except (StudioError, OSError, KeyError, TypeError) as error:
            return (str(error) if isinstance(error, StudioError) else "This model cannot be trained here.",
                    gr.Textbox("", visible=False), [], [], [], [], [], [], [])
        # What somebody may want to know of comes first.
        told = sorted(zip(found, sizes, strict=True), key=lambda pair: VERDICTS.index(pair[0].verdict))
        rows = [[one.name, ": ".join(filter(None, (said(one.verdict), "; ".join(map(said, one.reasons))))),
                 f"{size[0]} × {size[1]}" if size else "", str(one.tokens), one.caption] for one, size in told]
        notes = gr.Textbox("\n".join(map(said, found.notes)), visible=bool(found.notes))
        return _found(found), notes, small, small, rows, _tags(rows), rows, [], [one.digest for one, _ in used]

    def add(files: list[str] | None, name: str) -> Any:
        if not files:
            return (gr.skip(),) * 3
        made = studio.datasets.add([Path(file) for file in files], name or "pictures")
        names = list(studio.datasets.names())
        return gr.Dropdown(named(names), value=made), gr.Dropdown([(said("none"), ""), *named(names)]), None

    def write(rows: Rows, known: Rows, dataset: str, model: str) -> Rows:
        """Store the captions that changed; returns the rows with their tokens counted again."""
        before, card, counted = {row[0]: row[CAPTION] for row in known}, find_card(studio, model), []
        for row in rows:
            if before.get(row[0]) != row[CAPTION]:
                studio.datasets.caption(dataset, row[0], row[CAPTION])
                longest = max(studio.prompts.tokens(line, card.name).count for line in row[CAPTION].split("\n"))
                row = [*row[:TOKENS], str(longest), *row[TOKENS + 1:]]
            counted.append(row)
        return counted

    def edited(rows: Rows, known: Rows, dataset: str, model: str) -> tuple:
        rows = write(rows, known, dataset, model)
        return rows, known, _tags(rows)

    def replace(rows: Rows, dataset: str, model: str, find: str, put: str) -> tuple:
        if not find:
            raise RequestError("Find in captions: say what is to be replaced.", "find")
        changed = [[*row[:CAPTION], replaced(row[CAPTION], find, put)] for row in rows]
        if changed == rows:
            raise RequestError(f"Find in captions: no caption has {quoted(find)}.", "find")
        changed = write(changed, rows, dataset, model)
        return changed, changed, rows, _tags(changed)

    def restore(rows: Rows, undone: Rows, dataset: str, model: str) -> tuple:
        if not undone:
            raise RequestError("Undo: nothing was changed since the pictures were looked at.", "undo")
        undone = write(undone, rows, dataset, model)
        return undone, undone, rows, _tags(undone)

    def chosen(rows: list[list], event: gr.SelectData) -> str:
        return str(rows[event.index[0]][0])

    changes = [each.change for each in (data["dataset"], form["buckets"], form["crop"], form["masked"],
                                        form["caption_encoding"])]
    gr.on([*changes, form["resolution"].blur], look, inputs, shown, trigger_mode="always_last", **QUEUED)
    data["upload"].upload(guarded(add), [data["upload"], form["name"]],
                          [data["dataset"], form["prior_data"], data["upload"]], **QUEUED)
    state = [data["rows"], data["undone"], data["tags"]]
    stored = [data["dataset"], page.model]
    data["table"].input(guarded(edited), [data["table"], data["rows"], *stored], state, **QUEUED)
    data["swap"].click(guarded(replace), [data["rows"], *stored, data["find"], data["put"]], [data["table"], *state],
                       **QUEUED)
    data["undo"].click(guarded(restore), [data["rows"], data["undone"], *stored], [data["table"], *state], **QUEUED)
    data["tags"].select(chosen, data["tags"], data["find"], **QUEUED)

    def back(*values: Any) -> dict:
        return {data["dataset"]: gr.Dropdown(named(studio.datasets.names())),
                **dict(zip(shown, look(*values), strict=True))}

    page.returning.append((back, inputs, [data["dataset"], *shown]))


def _found(pictures: Sequence[Picture]) -> str:
    """Such as "24 pictures · 2 mended · 1 left out · 3 with a mask"."""
    used = [picture for picture in pictures if picture.used]
    mended = sum(picture.verdict == "mended" for picture in used)
    left_out, masks = len(pictures) - len(used), sum(picture.has_mask for picture in used)
    blank = sum(not picture.caption for picture in used)
    parts = [f"{len(used)} pictures" if len(used) > 1 else f"{len(used)} picture", mended and f"{mended} mended",
             left_out and f"{left_out} left out", masks and f"{masks} with a mask",
             blank and f"{blank} without a caption"]
    return " · ".join(filter(None, parts))


def _shown(picture: Picture, size: tuple[int, int], crop: str, masked: bool) -> tuple[str, str]:
    small = crops.shown(picture, size, crop, SIDE_PX, masked=masked)
    return save_pil_to_cache(small, get_upload_folder(), format="webp"), picture.caption[:80] or picture.name[:80]


def _tags(rows: Rows) -> list[list]:
    return [list(one) for one in histogram(row[CAPTION] for row in rows if row[2])[:TAGS]]
