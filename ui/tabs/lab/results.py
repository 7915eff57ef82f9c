"""The results of a page of the lab: pictures, curves and tables, and how a job's events become what they show."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr
import pandas as pd
from gradio.processing_utils import save_file_to_cache, save_pil_to_cache
from gradio.utils import get_upload_folder

from pipelines import events
from pipelines.queue.job import Job

from ...forms import source
from ...forms.fields import Control
from ...language import said
from ...results import curves, progress
from ...wiring import problem, toast
from .description import Look

PACE_S = 0.4  # every preview is a file in the cache and a download of the page
COLUMNS = ["x", "value", "curve"]
WORDED = {"Way", "What", "Kind"}  # columns whose cells are words of ours
HINT = "The result appears here. The settings are good ones to begin with: press **Start**."


@dataclass
class Parts:
    """A page's fields, and what a run changes: the report lines, the pictures, curves and tables.

    open: the way to a real tab, on pages that have one.
    """

    task: str
    fields: dict[str, Control | gr.ColorPicker] = field(default_factory=dict)
    given: dict[str, source.Source] = field(default_factory=dict)
    tables: dict[str, gr.LinePlot | gr.Dataframe] = field(default_factory=dict)
    legends: dict[str, gr.HTML] = field(default_factory=dict)
    status: gr.Textbox = field(init=False)
    bar: gr.HTML = field(init=False)
    notices: gr.Textbox = field(init=False)
    hint: gr.Markdown = field(init=False)
    pictures: gr.Gallery = field(init=False)
    open: gr.Button = field(init=False)

    @property
    def outputs(self) -> list[gr.components.Component]:
        given = [self.given["image"].view, self.given["image"].image_id] if "image" in self.given else []
        return [self.status, self.bar, self.notices, self.hint, self.pictures, *self.tables.values(),
                *self.legends.values(), *given]


def build(parts: Parts, look: Look) -> None:
    """Build the right side of a page."""
    parts.hint = gr.Markdown(HINT, elem_classes="hint", elem_id=f"{parts.task}-hint")
    parts.pictures = gr.Gallery(label="Pictures", show_label=False, columns=4, object_fit="contain", visible=False,
                                preview=look.wide, height=560 if look.wide else "auto", interactive=False,
                                buttons=["download", "fullscreen"], elem_classes="wide" if look.wide else "tiles",
                                elem_id=f"{parts.task}-pictures")
    for title, across in look.plots.items():
        parts.tables[title] = gr.LinePlot(x="x", y="value", color="curve", title=title, height=240, visible=False,
                                          label=title, show_label=False, x_title=across, y_title=" ",
                                          color_title=" ", colors_in_legend=[], elem_id=_result_id(parts, title))
        # One of our own: the plot's would be cut off on a phone.
        parts.legends[title] = gr.HTML(visible=False, elem_classes="legend",
                                       elem_id=f"{_result_id(parts, title)}-legend")
    for title in look.tables:
        parts.tables[title] = gr.Dataframe(label=title, interactive=False, wrap=True, visible=False, max_height=320,
                                           elem_id=_result_id(parts, title))
    if look.opens:
        with gr.Row(elem_classes="send"):
            gr.Markdown("Open in", elem_classes="send-label")
            parts.open = gr.Button(look.opens.label, size="sm", min_width=60, elem_id=f"{parts.task}-open")


def _result_id(parts: Parts, title: str) -> str:
    return f"{parts.task}-result-{title.split()[0].lower()}"


def cleared(parts: Parts) -> dict:
    """Take away the curves and tables of the run before: the next one may have others, or none.

    Also because a plot takes in new curves only when it is built anew: one that stays draws them without colours.
    """
    return {one: type(one)(visible=False) for one in (*parts.tables.values(), *parts.legends.values())}


def relay(parts: Parts, job: Job, raise_failure: bool = True) -> Iterator[dict]:
    """Yield component updates until the job has ended. Raises gr.Error at the end of one that failed."""
    cache = get_upload_folder()
    pictures: list[tuple[str, str]] = []
    tables: dict = {}
    update: dict = {}
    failure, last = "", 0.0
    for event in job.follow():
        match event:
            case events.StepDone():
                update |= {parts.status: progress.step_line(event), parts.bar: progress.bar("running", event)}
                if event.preview is not None and time.monotonic() - last >= PACE_S:
                    preview = save_pil_to_cache(event.preview, cache, format="webp")
                    update |= _shown(parts, [*pictures, (preview, said(f"Step {event.step}"))], len(pictures))
            case events.Pictured(path, caption):
                pictures.append((save_file_to_cache(path, cache), said(caption)))
                update |= _shown(parts, pictures)
            case events.Tabled(title, columns, rows):
                changed = _table(parts, title, columns, rows)
                tables |= changed
                update |= {**changed, **_no_hint(parts)}
            case events.Notice(text):
                update[parts.notices] = text
            case events.Stalled(seconds):
                update[parts.status] = progress.stalled_line(seconds)
            case events.Queued(position, loads):
                update[parts.status] = progress.waiting_line(position, loads)
            case events.Loading(title):
                update[parts.status] = f"Loading {title} ..."
            case events.Finished(_, seconds, stopped):
                update |= {parts.status: "Stopped." if stopped else f"Done in {seconds:.1f} s",
                           parts.bar: progress.bar("done"), **tables, **_shown(parts, pictures)}
            case events.Failed(error):
                failure = problem(error)
                update |= {parts.status: failure, parts.bar: progress.bar("failed")}
        ended = isinstance(event, events.Finished | events.Failed)
        if ended or time.monotonic() - last >= (PACE_S if update else progress.IDLE_S):
            yield update or gr.skip()
            update, last = {}, time.monotonic()
    if failure and raise_failure:
        raise toast(failure)


def _shown(parts: Parts, pictures: list[tuple[str, str]], chosen: int = 0) -> dict:
    """chosen: the picture that is large, where they are shown one at a time."""
    index: dict[str, Any] = {"selected_index": chosen} if parts.pictures.preview else {}
    return {parts.pictures: gr.Gallery(list(pictures), visible=bool(pictures), **index),
            **(_no_hint(parts) if pictures else {})}


def _no_hint(parts: Parts) -> dict:
    return {parts.hint: gr.Markdown(visible=False)}


def _table(parts: Parts, title: str, columns: tuple[str, ...], rows: tuple[tuple, ...]) -> dict:
    component = parts.tables[title]
    if isinstance(component, gr.LinePlot):
        # The types are said, because a plot that begins empty would take its numbers for names.
        curve = [(x, value, said(str(name))) for x, value, name in rows]
        frame = pd.DataFrame(curve, columns=COLUMNS).astype({"x": float, "value": float, "curve": str})
        colours = curves.colours(frame)
        plot = gr.LinePlot(frame, visible=True, color_map=colours, x_title=said(component.x_title or ""))
        return {component: plot, parts.legends[title]: gr.HTML(_legend(colours), visible=True)}
    data = [[said(str(cell)) if column in WORDED else str(cell) for column, cell in zip(columns, row, strict=True)]
            for row in rows]
    headers = [said(column) for column in columns]
    return {component: gr.Dataframe({"headers": headers, "data": data}, visible=True)}


def _legend(colours: dict[str, str]) -> str:
    return "".join(f'<span><i style="background: {colour}"></i>{escape(name)}</span>'
                   for name, colour in colours.items())
