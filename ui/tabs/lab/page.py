"""What the pages of the lab have in common: controls from a request's fields, Start and Stop, the way to a real tab."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from pipelines.lab.page_requests import PAGES, TASK
from pipelines.studio.studio import Studio
from pipelines.studio.works import AskLab
from pipelines.training.example import DRAWINGS

from ...forms import source
from ...forms.fields import Control, make_control
from ...language import named
from ...results import progress
from ...tab import Page
from ...visitors import caller, page_of
from ...wiring import QUEUED, QUIET, apart, guarded, inform, problem, toast, told
from . import results
from .description import Look, Opens, code_of, linked
from .results import Parts

EXAMPLE = DRAWINGS / "fox.png"
PICTURES = {"image": "Picture (a drawing of a fox, if you give none)", "second": "Second picture",
            "third": "Third picture"}
SECRET = ("token",)  # never remembered by the browser


def build(look: Look, studio: Studio, page: Page) -> None:
    """Build a page inside the current Blocks."""
    parts = Parts(TASK + look.name)
    with gr.Row(elem_classes="workspace lab"):
        with gr.Column(elem_classes="ask", min_width=0):
            gr.Markdown(linked(look.about), elem_classes="about")
            for name in look.front:
                _add(parts, look, studio, page, name)
            with gr.Row(elem_classes="actions"):
                run = gr.Button("Start", variant="primary", size="lg", scale=6, min_width=120, elem_classes="generate",
                                elem_id=f"{parts.task}-run")
                stop = gr.Button("Stop", size="lg", scale=2, min_width=64, elem_classes="while-running",
                                 elem_id=f"{parts.task}-stop")
            parts.status, parts.bar, parts.notices = progress.status_lines(parts.task)
        _given(parts, look, page)
        with gr.Column(elem_classes="knobs", min_width=0):
            rest = [name for name in PAGES[look.name].model_fields
                    if name not in (*look.front, *look.more, *PICTURES, "seed")]
            _rows(parts, look, studio, page, rest + ["seed"] * look.seeded)
            if look.more:
                with gr.Accordion("More", open=False, elem_classes="more", elem_id=f"{parts.task}-more"):
                    _rows(parts, look, studio, page, look.more)
            with gr.Accordion("The lines that matter", open=True, elem_classes="more", elem_id=f"{parts.task}-lines"):
                gr.Code(code_of(look.code), language="python", interactive=False, show_label=False, max_lines=24,
                        label="The lines that matter", show_line_numbers=False, elem_id=f"{parts.task}-code")
        with gr.Column(elem_classes="results", min_width=0):
            results.build(parts, look)
    _wire(look, parts, studio, page, run, stop)
    if look.opens:
        _wire_open(look.opens, parts, studio, page)


def _given(parts: Parts, look: Look, page: Page) -> None:
    """Where pictures are dropped: the first in sight, the others folded away."""
    names = [name for name in PICTURES if name in PAGES[look.name].model_fields]
    if not names:
        return

    def place(name: str) -> None:
        task = parts.task if name == "image" else f"{parts.task}-{name}"
        label = "Reference picture" if look.name == "guide" else PICTURES[name]
        parts.given[name] = source.picture(task, label)
        parts.fields[name] = page.remembered[f"{parts.task}.{name}"] = parts.given[name].image_id

    with gr.Column(elem_classes="given", min_width=0):
        if look.name != "guide":
            place(names.pop(0))
        if names:
            title = "Reference picture" if look.name == "guide" else "More pictures"
            with gr.Accordion(title, open=False, elem_classes="more", elem_id=f"{parts.task}-pictures-more"):
                for name in names:
                    place(name)


def _rows(parts: Parts, look: Look, studio: Studio, page: Page, names: Sequence[str]) -> None:
    for left in range(0, len(names), 2):
        with gr.Row():
            for name in names[left:left + 2]:
                _add(parts, look, studio, page, name)


def _add(parts: Parts, look: Look, studio: Studio, page: Page, name: str) -> None:
    info = PAGES[look.name].model_fields[name]
    control: Control | gr.ColorPicker
    value, elem_id = look.values.get(name, info.default), f"{parts.task}-{name}"
    about: dict[str, Any] = {"value": value, "label": info.title, "info": info.description, "elem_id": elem_id,
                             "min_width": 100}
    if name in look.choices:
        listed = getattr(studio.lab_shelf, look.choices[name])
        control = picker = gr.Dropdown(list(listed()), filterable=False, **about)
        # Read again when it is opened, so that what was just made can be chosen.
        picker.focus(lambda: gr.Dropdown(choices=named(listed())), None, picker, **QUIET)
    elif name == "colour":
        control = gr.ColorPicker(**about)
    elif name in SECRET:
        control = gr.Textbox(type="password", max_lines=1, **about)
    else:
        lines = {"lines": 2, "max_lines": 6} if name in ("prompt", "others") else {}
        control = make_control(info, name, elem_id, value, min_width=100, **lines)
    parts.fields[name] = control
    if name not in SECRET:
        page.remembered[f"{parts.task}.{name}"] = control


def _wire(look: Look, parts: Parts, studio: Studio, page: Page, run: gr.Button, stop: gr.Button) -> None:
    names = list(parts.fields)

    def start(visitor: str, model: str, *values: Any) -> Iterator[dict]:
        job = studio.current(page_of(visitor), parts.task)
        if job is not None and not job.done:
            inform("This page is still at work. Wait for it, or press Stop.")
            return
        try:
            given = dict(zip(names, values, strict=True))
            shown = {}
            if "image" in parts.given and not given["image"] and look.name != "guide":
                given["image"] = studio.images.add(EXAMPLE).id
                shown = {parts.given["image"].view: source.small_copy(studio, given["image"]),
                         parts.given["image"].image_id: given["image"]}
            job = studio.submit(AskLab(look.name, {**given, "model": model}), caller(visitor))
        except Exception as error:
            message = problem(error)
            yield {parts.status: message, parts.bar: progress.bar("failed")}
            raise toast(message) from None
        yield {parts.status: "Starting ...", parts.bar: progress.bar("running"), parts.notices: "",
               **results.cleared(parts), **shown}
        yield from results.relay(parts, job)

    def attach(visitor: str) -> Iterator[dict]:
        job = studio.current(page_of(visitor), parts.task)
        if job is None:
            yield gr.skip()
            return
        yield from results.relay(parts, job, raise_failure=False)

    def end(visitor: str) -> str | dict:
        return told(studio.current(page_of(visitor), parts.task), lambda job: job.stop())

    run.click(None, parts.status, parts.status, js=f"(said) => atelier.starting('{run.elem_id}', said)", **QUIET)
    run.click(start, [page.visitor, page.model, *parts.fields.values()], parts.outputs, trigger_mode="once", **QUEUED)
    # At once, and never after the last word.
    stop.click(None, None, parts.status, js="() => atelier.word('Stopping ...')", **QUIET)
    stop.click(end, page.visitor, parts.status, **QUIET)
    page.follow_again(parts.task, attach, parts.outputs)
    for one in parts.given.values():
        one.wire(studio, page.model)
        page.returning.append((one.again(studio), [one.image_id], one.outputs))


def _wire_open(opens: Opens, parts: Parts, studio: Studio, page: Page) -> None:
    """Take the page's settings, and its picture, to the real tab."""
    mine = [name for name, there in opens.fields.items() if f"{opens.tab}.{there}" in page.remembered]
    theirs = [page.remembered[f"{opens.tab}.{opens.fields[name]}"] for name in mine]
    receiver = page.receivers.get(opens.tab) if opens.picture else None

    def go(image_id: str, *values: Any) -> dict:
        update: dict = {page.tabs: gr.Tabs(selected=opens.tab)}
        if receiver is not None and image_id:
            update |= receiver.accept(source.small_copy(studio, image_id))
        for control, value in zip(theirs, values, strict=True):
            # The Train tab's empty boxes mean "as the preset says", so its numbers are typed as text.
            update[control] = str(value) if isinstance(control, gr.Textbox) else value
        return update

    picture = parts.fields[opens.picture] if opens.picture else page.visitor
    outputs = list(dict.fromkeys([page.tabs, *theirs, *(receiver.outputs if receiver else [])]))
    parts.open.click(guarded(go), [picture, *(parts.fields[name] for name in mine)], outputs,
                     **apart(QUEUED, page.model))
