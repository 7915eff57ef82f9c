"""Captions typed over, or words replaced in all of them; each change is stored at once and can be undone."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from pipelines.errors import RequestError, quoted
from pipelines.studio.studio import Studio
from pipelines.training.dataset.captions import histogram, replaced

from ...forms.controls import find_card
from ...tab import Page
from ...wiring import QUEUED, guarded

TAGS = 200
HEADERS = ["picture", "verdict", "trained at", "tokens", "caption"]
WIDTHS: list[str | int] = ["18%", "29%", "13%", "13%", "27%"]
TOKENS, CAPTION = HEADERS.index("tokens"), HEADERS.index("caption")
Rows = list[list[str]]
Tags = list[list[str | int]]


@dataclass(frozen=True)
class Captions:
    """The controls of the captions. rows: state, the table as it is stored. undone: state, the table before that."""

    table: gr.Dataframe
    tags: gr.Dataframe
    find: gr.Textbox
    put: gr.Textbox
    swap: gr.Button
    undo: gr.Button
    rows: gr.State
    undone: gr.State

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What is filled when a dataset is looked at, in the order of `filled`."""
        return [self.table, self.tags, self.rows, self.undone]


def build() -> Captions:
    """Build the table, the tags, and what replaces words in all captions, inside the current accordion."""
    fixed = (len(HEADERS), "fixed")
    table = gr.Dataframe(headers=HEADERS, datatype="str", type="array",
                         column_count=fixed,  # type: ignore[arg-type]  # as Gradio reads it; its column_limits is not
                         static_columns=list(range(CAPTION)), wrap=True, max_height=320, buttons=[],
                         column_widths=WIDTHS, label="Captions can be typed over", elem_id="train-table")
    tags = gr.Dataframe(headers=["tag", "captions"], datatype=["str", "number"], type="array", interactive=False,
                        column_count=2, max_height=200, wrap=True, buttons=[], elem_id="train-tags",
                        column_widths=["55%", "45%"],
                        label="Tags, by how many captions have them; click one to find it")
    with gr.Row():
        find = gr.Textbox("", label="Find in captions", elem_id="train-find", min_width=100,
                          info="Words to look for in every caption.")
        put = gr.Textbox("", label="Replace with", elem_id="train-replace", min_width=100,
                         info="Nothing takes what was found away.")
    with gr.Row():
        swap = gr.Button("Replace in all", size="sm", elem_id="train-swap", min_width=60)
        undo = gr.Button("Undo", size="sm", elem_id="train-undo", min_width=60)
    return Captions(table, tags, find, put, swap, undo, gr.State([]), gr.State([]))


def filled(rows: Rows) -> tuple[Rows, Tags, Rows, Rows]:
    """Values of `Captions.outputs` for a dataset that was just looked at."""
    return rows, count_tags(rows), rows, []


def count_tags(rows: Rows) -> Tags:
    """Each tag with how many captions have it; pictures that are left out have none."""
    return [list(one) for one in histogram(row[CAPTION] for row in rows if row[2])[:TAGS]]


@dataclass(frozen=True)
class CaptionEditor:
    """What changes captions. dataset: whose they are."""

    studio: Studio
    page: Page
    dataset: gr.Dropdown
    captions: Captions

    def wire(self) -> None:
        """Bind the table and the buttons to their events."""
        captions = self.captions
        stored = [self.dataset, self.page.model]
        state = [captions.rows, captions.undone, captions.tags]
        captions.table.input(guarded(self.edit), [captions.table, captions.rows, *stored], state, **QUEUED)
        captions.swap.click(guarded(self.replace), [captions.rows, *stored, captions.find, captions.put],
                            [captions.table, *state], **QUEUED)
        captions.undo.click(guarded(self.restore), [captions.rows, captions.undone, *stored],
                            [captions.table, *state], **QUEUED)
        captions.tags.select(choose_tag, captions.tags, captions.find, **QUEUED)

    def edit(self, rows: Rows, known: Rows, dataset: str, model: str) -> tuple[Rows, Rows, Tags]:
        """Store what was typed into the table."""
        rows = self._write(rows, known, dataset, model)
        return rows, known, count_tags(rows)

    def replace(self, rows: Rows, dataset: str, model: str, find: str, put: str) -> tuple[Rows, Rows, Rows, Tags]:
        """Replace words in all captions."""
        if not find:
            raise RequestError("Find in captions: say what is to be replaced.", "find")
        changed = [[*row[:CAPTION], replaced(row[CAPTION], find, put)] for row in rows]
        if changed == rows:
            raise RequestError(f"Find in captions: no caption has {quoted(find)}.", "find")
        changed = self._write(changed, rows, dataset, model)
        return changed, changed, rows, count_tags(changed)

    def restore(self, rows: Rows, undone: Rows, dataset: str, model: str) -> tuple[Rows, Rows, Rows, Tags]:
        """Store the captions of before the last change."""
        if not undone:
            raise RequestError("Undo: nothing was changed since the pictures were looked at.", "undo")
        undone = self._write(undone, rows, dataset, model)
        return undone, undone, rows, count_tags(undone)

    def _write(self, rows: Rows, known: Rows, dataset: str, model: str) -> Rows:
        """Store the captions that changed; returns the rows with their tokens counted again."""
        before = {row[0]: row[CAPTION] for row in known}
        card = find_card(self.studio, model)
        counted = []
        for row in rows:
            if before.get(row[0]) != row[CAPTION]:
                self.studio.datasets.caption(dataset, row[0], row[CAPTION])
                longest = max(self.studio.prompts.tokens(line, card.name).count for line in row[CAPTION].split("\n"))
                row = [*row[:TOKENS], str(longest), *row[TOKENS + 1:]]
            counted.append(row)
        return counted


def choose_tag(rows: Tags, event: gr.SelectData) -> str:
    """The tag that was clicked on, to find it."""
    return str(rows[event.index[0]][0])
