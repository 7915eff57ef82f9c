"""The list: search, filters, pages of tiles or lines, and what is in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from pipelines.library import KINDS, Library
from pipelines.studio.studio import Studio

from ...language import said
from ...tab import Page
from ...wiring import QUIET
from .words import COLUMNS, Pictures, row, size

ON_A_PAGE = 24
TICK_S = 1.5
ALL, REFUSED = "", "refused"
NO_FIT = "Nothing fits. Try fewer words, or another family or kind."
NONE_YET = "Nothing of this kind yet. Download it, or put it into a model folder."
NO_FAULTS = "Every file that was found can be used."
ORDERS = {"Name": lambda entry: entry.name.casefold(), "Newest first": lambda entry: -entry.modified_s,
          "Largest first": lambda entry: -entry.size_bytes}


@dataclass
class Shelf:
    """The controls of the list. ids: of the entries on this page of it. seen: what is shown, to notice news."""

    words: gr.Textbox
    kind: gr.Radio
    family: gr.Dropdown
    order: gr.Dropdown
    view: gr.Radio
    refresh: gr.Button
    tiles: gr.Gallery
    table: gr.Dataframe
    nothing: gr.Markdown
    before: gr.Button
    after: gr.Button
    range: gr.Textbox
    status: gr.Textbox
    memory: gr.Textbox
    timer: gr.Timer
    number: gr.State
    ids: gr.State
    seen: gr.State


def build(below: Callable[[], None] = lambda: None) -> Shelf:
    """Build the list inside the current column. below: builds what stands under it."""
    line: dict[str, Any] = {"show_label": False, "container": False, "interactive": False, "max_lines": 1}
    with gr.Row(elem_classes="shelf-tools"):
        words = gr.Textbox("", label="Search", max_lines=1, scale=3, min_width=140, elem_id="models-search",
                           placeholder="Name, family, trigger word, hash ...",
                           info="Every word must be found: in the name, folder, family, notes, trigger words or hash.")
        family = gr.Dropdown([("Any", "")], value="", label="Family", filterable=False, scale=2, min_width=120,
                             elem_id="models-family", info="Models of one family work with each other.")
        order = gr.Dropdown(list(ORDERS), value="Name", label="Order", filterable=False, scale=1, min_width=110,
                            elem_id="models-order", info="What comes first in the list.")
    kind = gr.Radio([("All", ALL), *((f"{label}s", name) for name, label in KINDS.items()),
                     ("Cannot be used", REFUSED)], value=ALL, label="Kind", show_label=False, container=False,
                    elem_id="models-kind")
    with gr.Row(elem_classes="shelf-pages"):
        before = gr.Button("Back", size="sm", min_width=64, elem_id="models-before")
        after = gr.Button("Next", size="sm", min_width=64, elem_id="models-after")
        range_line = gr.Textbox("", label="Which of them", elem_classes="line", elem_id="models-range",
                                min_width=60, **line)
        view = gr.Radio(["Tiles", "Table"], value="Tiles", label="View", show_label=False, container=False,
                        min_width=120, elem_id="models-view")
        refresh = gr.Button("Scan again", size="sm", min_width=90, elem_id="models-refresh")
    tiles = gr.Gallery(label="Models", show_label=False, columns=6, allow_preview=False, object_fit="cover", buttons=[],
                       height="auto", interactive=False, type="filepath", elem_classes="shelf", elem_id="models-tiles")
    table = gr.Dataframe(headers=list(COLUMNS), datatype="str", type="array", interactive=False, visible=False,
                         column_widths=[156, 92, 150, 66, 108, 118, 120], max_height=1000, label="Models",
                         show_label=False, elem_id="models-table", buttons=[])
    nothing = gr.Markdown("", visible=False, elem_classes="hint nothing", elem_id="models-nothing")
    below()
    status = gr.Textbox("", label="The search for models", elem_classes="line", elem_id="models-status", **line)
    memory = gr.Textbox("", label="In memory", lines=1, max_lines=6, interactive=False, elem_id="models-memory",
                        info="Checkpoints that need no loading. What waits in main memory comes back with a copy.")
    return Shelf(words, kind, family, order, view, refresh, tiles, table, nothing, before, after, range_line,
                 status, memory, gr.Timer(TICK_S, active=False), gr.State(0), gr.State([]), gr.State(()))


def wire(studio: Studio, page: Page, shelf: Shelf) -> None:
    """Show the list when the tab is opened, and again whenever there is news."""
    library, pictures = studio.collection.library, Pictures()
    asked = [shelf.words, shelf.kind, shelf.family, shelf.order, shelf.view, shelf.number]
    outputs = [shelf.tiles, shelf.table, shelf.nothing, shelf.range, shelf.status, shelf.memory, shelf.family,
               shelf.number, shelf.ids, shelf.seen, shelf.before, shelf.after, shelf.timer]

    def show(seen: tuple | None, words: str, kind: str, family: str, order: str, view: str, number: int) -> dict:
        found = library.entries(words or "", kind if kind in KINDS else "", family or "")
        entries = sorted((entry for entry in found if kind != REFUSED or entry.fault),
                         key=ORDERS.get(order, ORDERS["Name"]))
        last = max(0, (len(entries) - 1) // ON_A_PAGE)
        number = min(max(0, number), last)
        here = entries[number * ON_A_PAGE:(number + 1) * ON_A_PAGE]
        progress = library.progress
        busy = progress.scanning or progress.hashing > 0
        lines = {shelf.status: _status(library), shelf.memory: said(_memory(studio)),
                 shelf.timer: gr.Timer(active=busy)}
        why = "" if here else NO_FAULTS if kind == REFUSED and not words else NO_FIT if words or family else NONE_YET
        sign = (number, view, why, len(entries), tuple(here))
        if sign == seen:
            return lines
        library.want_hashes(here)
        first = number * ON_A_PAGE + 1
        families = sorted({(entry.family_label, entry.family) for entry in library.entries() if entry.family})
        tiles = [(pictures.path(entry), entry.name) for entry in here] if view == "Tiles" else []
        return {**lines, shelf.timer: gr.Timer(active=True), shelf.seen: sign, shelf.number: number,
                shelf.ids: [entry.id for entry in here],
                shelf.nothing: gr.Markdown(said(why), visible=bool(why)),
                shelf.tiles: gr.Gallery(tiles, visible=bool(tiles), selected_index=None),
                shelf.table: gr.Dataframe({"headers": [said(name) for name in COLUMNS],
                                           "data": [row(entry) for entry in here] if view == "Table" else []},
                                          visible=view == "Table" and bool(here)),
                shelf.range: f"{first:,} to {first + len(here) - 1:,} of {len(entries):,}" if here else "",
                shelf.before: gr.Button(interactive=number > 0), shelf.after: gr.Button(interactive=number < last),
                shelf.family: gr.Dropdown([(said("Any"), ""), *families])}

    def anew(words: str, kind: str, family: str, order: str, view: str, number: int) -> dict:
        return show(None, words, kind, family, order, view, 0)

    def turned(step: int) -> Callable[..., dict]:
        return lambda words, kind, family, order, view, number: show(None, words, kind, family, order, view,
                                                                     number + step)

    def look_again(*values: Any) -> dict:
        library.refresh()
        return {**show(None, *values), shelf.timer: gr.Timer(active=True)}

    page.opened["models"].select(lambda *values: show(None, *values), asked, outputs, **QUIET)
    gr.on([shelf.words.change, shelf.kind.change, shelf.family.input, shelf.order.input, shelf.view.change], anew,
          asked, outputs, trigger_mode="always_last", **QUIET)
    shelf.before.click(turned(-1), asked, outputs, **QUIET)
    shelf.after.click(turned(1), asked, outputs, **QUIET)
    shelf.refresh.click(look_again, asked, outputs, **QUIET)
    page.about.change(lambda: said(_memory(studio)), None, shelf.memory, **QUIET)
    shelf.timer.tick(show, [shelf.seen, *asked], outputs, **QUIET)


def _status(library: Library) -> str:
    progress = library.progress
    if progress.scanning:
        share = f": {progress.done:,} of {progress.total:,} files" if progress.total else " ..."
        return f"Looking through the folders{share}"
    hashing = f" · {progress.hashing} hashes to come" if progress.hashing else ""
    count = len(library.entries())
    return f"{count:,} {'file' if count == 1 else 'files'}{hashing}"


def _memory(studio: Studio) -> str:
    where = {False: "ready on the device", True: "waits in main memory"}
    lines = [f"{each.name}: {size(each.size_bytes)}, {where[each.parked]}" for each in studio.status().loaded]
    return "\n".join(lines) or "nothing yet"
