"""What the pages of the lab have in common: controls from a request's fields, Run and Stop, pictures and tables."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import pandas as pd
from gradio.processing_utils import save_file_to_cache, save_pil_to_cache
from gradio.utils import get_upload_folder

from pipelines import events
from pipelines.lab.pages import PAGES, TASK
from pipelines.training.example import DRAWINGS

from . import progress, source
from .fields import make_control
from .tab import Page
from .wiring import QUEUED, QUIET, problem, toast, told

EXAMPLE = DRAWINGS / "fox.png"
PACE_S = 0.4  # every preview is a file in the cache and a download of the page
HINT = "The pictures appear here. The settings are good ones to begin with: press **Run**."


@dataclass(frozen=True)
class Look:
    """One page of the lab.

    name: its request's, in PAGES. about: what is seen, with the papers. code: the lines that matter. front: fields
    above Run; the others follow below. values: what differs from the fields' defaults. plots, tables: titles of what
    the job tells. wide: its pictures are sheets and animations, shown one at a time. seeded: whether anything
    in it is random.
    """

    name: str
    label: str
    about: str
    code: str
    front: tuple[str, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)
    plots: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    wide: bool = False
    seeded: bool = True


@dataclass
class Parts:
    """A page's fields, and what a run changes: the report lines, the pictures, curves and tables."""

    task: str
    fields: dict[str, gr.components.Component] = field(default_factory=dict)
    given: source.Source | None = None
    tables: dict[str, gr.components.Component] = field(default_factory=dict)
    status: gr.Textbox | None = None
    bar: gr.HTML | None = None
    notices: gr.Textbox | None = None
    hint: gr.Markdown | None = None
    pictures: gr.Gallery | None = None

    @property
    def outputs(self) -> list[gr.components.Component]:
        given = [self.given.view, self.given.image_id] if self.given else []
        return [self.status, self.bar, self.notices, self.hint, self.pictures, *self.tables.values(), *given]


def build(look: Look, studio: Any, page: Page) -> None:
    """Build a page inside the current Blocks."""
    parts = Parts(TASK + look.name)
    with gr.Row(elem_classes="workspace"):
        with gr.Column(elem_classes="ask", min_width=0):
            gr.Markdown(look.about, elem_classes="about")
            for name in look.front:
                _add(parts, look, page, name)
            with gr.Row(elem_classes="actions"):
                run = gr.Button("Run", variant="primary", size="lg", scale=6, min_width=120, elem_classes="generate",
                                elem_id=f"{parts.task}-run")
                stop = gr.Button("Stop", size="lg", scale=2, min_width=64, elem_classes="while-running",
                                 elem_id=f"{parts.task}-stop")
            parts.status, parts.bar, parts.notices = progress.status_lines(parts.task)
        if "image" in PAGES[look.name].model_fields:
            with gr.Column(elem_classes="given", min_width=0):
                parts.given = source.picture(parts.task, "Picture (a drawing of a fox, if you give none)")
                parts.fields["image"] = page.remembered[f"{parts.task}.image"] = parts.given.image_id
        with gr.Column(elem_classes="knobs", min_width=0):
            rest = [name for name in PAGES[look.name].model_fields if name not in (*look.front, "image", "seed")]
            rest += ["seed"] if look.seeded else []
            for left in range(0, len(rest), 2):
                with gr.Row():
                    for name in rest[left:left + 2]:
                        _add(parts, look, page, name)
            gr.Code(look.code.strip(), language="python", interactive=False, label="The lines that matter",
                    show_line_numbers=False, elem_id=f"{parts.task}-code")
        with gr.Column(elem_classes="results", min_width=0):
            _results(parts, look)
    _wire(look, parts, studio, page, run, stop)


def _add(parts: Parts, look: Look, page: Page, name: str) -> None:
    info = PAGES[look.name].model_fields[name]
    lines = {"lines": 2, "max_lines": 6} if info.annotation is str else {}
    control = make_control(info, name, f"{parts.task}-{name}", look.values.get(name, info.default), min_width=100,
                           **lines)
    parts.fields[name] = page.remembered[f"{parts.task}.{name}"] = control


def _results(parts: Parts, look: Look) -> None:
    parts.hint = gr.Markdown(HINT, elem_classes="hint", elem_id=f"{parts.task}-hint")
    parts.pictures = gr.Gallery(label="Pictures", show_label=False, columns=4, object_fit="contain", visible=False,
                                preview=look.wide, height=560 if look.wide else "auto", interactive=False,
                                buttons=["download", "fullscreen"], elem_classes="" if look.wide else "tiles",
                                elem_id=f"{parts.task}-pictures")
    for title in look.plots:
        parts.tables[title] = gr.LinePlot(x="t", y="value", color="schedule", title=title, height=200, visible=False,
                                          label=title, show_label=False, x_title="t / T", y_title=title,
                                          elem_id=f"{parts.task}-{title.split()[0].lower()}")
    for title in look.tables:
        parts.tables[title] = gr.Dataframe(label=title, interactive=False, wrap=True, visible=False, max_height=320,
                                           elem_id=f"{parts.task}-{title.split()[0].lower()}")


def _wire(look: Look, parts: Parts, studio: Any, page: Page, run: gr.Button, stop: gr.Button) -> None:
    names = list(parts.fields)

    def start(visitor: str, model: str, *values: Any) -> Iterator[dict]:
        job = studio.current(visitor, parts.task)
        if job is not None and not job.done:
            gr.Info("This page is still at work. Wait for it, or press Stop.")
            return
        try:
            given = dict(zip(names, values, strict=True))
            shown = {}
            if parts.given and not given["image"]:
                given["image"] = studio.images.add(EXAMPLE).id
                shown = {parts.given.view: source.small_copy(studio, given["image"]),
                         parts.given.image_id: given["image"]}
            job = studio.lab(look.name, {**given, "model": model}, visitor)
        except Exception as error:
            message = problem(error)
            yield {parts.status: message, parts.bar: progress.bar("failed")}
            raise toast(message) from None
        yield {parts.status: "Starting ...", parts.bar: progress.bar("running"), parts.notices: "", **shown}
        yield from relay(parts, job)

    def attach(visitor: str) -> Iterator[Any]:
        job = studio.current(visitor, parts.task)
        if job is None:
            yield gr.skip()
            return
        yield from relay(parts, job, raise_failure=False)

    def end(visitor: str) -> Any:
        return told(studio.current(visitor, parts.task), lambda job: job.stop())

    run.click(start, [page.visitor, page.model, *parts.fields.values()], parts.outputs, trigger_mode="once", **QUEUED)
    stop.click(None, None, parts.status, js="() => 'Stopping ...'", **QUIET)  # at once, and never after the last word
    stop.click(end, page.visitor, parts.status, **QUIET)
    page.returning.append((attach, [page.visitor], parts.outputs))
    if parts.given:
        parts.given.wire(studio, page.model)
        page.returning.append((parts.given.again(studio), [parts.given.image_id], parts.given.outputs))


def relay(parts: Parts, job: Any, raise_failure: bool = True) -> Iterator[Any]:
    """Yield component updates until the job has ended. Raises gr.Error at the end of one that failed."""
    cache = get_upload_folder()
    pictures: list[tuple[str, str]] = []
    update: dict = {}
    failure, last = "", 0.0
    for event in job.follow():
        match event:
            case events.StepDone():
                update |= {parts.status: progress.step_line(event), parts.bar: progress.bar("running", event)}
                if event.preview is not None and time.monotonic() - last >= PACE_S:
                    preview = save_pil_to_cache(event.preview, cache, format="webp")
                    update |= _shown(parts, [*pictures, (preview, f"Step {event.step}")], len(pictures))
            case events.Pictured(path, caption):
                pictures.append((save_file_to_cache(path, cache), caption))
                update |= _shown(parts, pictures)
            case events.Tabled(title, columns, rows):
                update |= {parts.tables[title]: _table(parts.tables[title], columns, rows), **_no_hint(parts)}
            case events.Notice(text):
                update[parts.notices] = text
            case events.Queued(position):
                update[parts.status] = progress.waiting_line(position)
            case events.Loading(title):
                update[parts.status] = f"Loading {title} ..."
            case events.Finished(_, seconds, stopped):
                update |= {parts.status: "Stopped." if stopped else f"Done in {seconds:.1f} s",
                           parts.bar: progress.bar("done"), **_shown(parts, pictures)}
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
    index = {"selected_index": chosen} if parts.pictures.preview else {}
    return {parts.pictures: gr.Gallery(list(pictures), visible=bool(pictures), **index),
            **(_no_hint(parts) if pictures else {})}


def _no_hint(parts: Parts) -> dict:
    return {parts.hint: gr.Markdown(visible=False)}


def _table(component: gr.components.Component, columns: tuple[str, ...], rows: tuple[tuple, ...]) -> Any:
    if isinstance(component, gr.LinePlot):
        return gr.LinePlot(pd.DataFrame(list(rows), columns=["t", "value", "schedule"]), visible=True)
    return gr.Dataframe({"headers": list(columns), "data": [[str(cell) for cell in row] for row in rows]},
                        visible=True)
