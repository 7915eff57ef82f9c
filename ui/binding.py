"""Between a form and the studio: values become a request by name, errors become one readable sentence."""

from __future__ import annotations

import html
import logging
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from pipelines.errors import StudioError
from pipelines.requests import Request, make

if TYPE_CHECKING:
    from .axes import Axes
    from .controls import Form
    from .progress import Panel
    from .tab import Page

log = logging.getLogger(__name__)

# Small events skip the queue: it counts all events, and a full queue would refuse even a click on Stop. They must not
# fail, because the page shows no message for an error outside the queue.
QUIET = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# Events that may fail or that relay a job's news. They do no heavy work, so there may be as many as there are pages.
QUEUED = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}


def apart(options: dict[str, Any], line: gr.components.Component) -> dict[str, Any]:
    """Options of an event that changes the mask editor, or the tabs it lies in.

    Gradio 6 asks every component that ever showed an event's progress for its value whenever any event reports, and
    the mask editor answers by uploading its picture. line: the component that shows the progress instead.
    """
    return {**options, "show_progress_on": line}


Prepare = Callable[[dict[str, Any]], dict[str, Any]]


def problem(error: BaseException) -> str:
    """Say an error to a person: ours in their own words, any other by an id that is found in the log."""
    if isinstance(error, StudioError):
        return str(error)
    name = uuid.uuid4().hex[:6]
    log.error("unexpected error %s", name, exc_info=error)
    return f"Something went wrong (id {name})"


def toast(message: str) -> gr.Error:
    """The error to raise. A toast is rendered as HTML, and the message may repeat what somebody typed."""
    return gr.Error(html.escape(message), print_exception=False)


def guarded(handler: Callable) -> Callable:
    """Turn whatever a handler raises into a toast with one readable sentence."""

    def call(*values: Any) -> Any:
        try:
            return handler(*values)
        except gr.Error:
            raise
        except Exception as error:
            raise toast(problem(error)) from None

    return call


def bind(studio: Any, page: Page, form: Form, panel: Panel, prepare: Prepare | None = None,
         extra: dict[str, gr.components.Component] | None = None,
         echo: dict[str, gr.components.Component] | None = None,
         before: Callable[[gr.Button], gr.events.Dependency] | None = None, axes: Axes | None = None) -> None:
    """Wire a tab: Generate, Stop, Skip, and picking up a running job after a reload.

    prepare: makes request values from the form's values and those of `extra` (a mask editor, say), which it
    must remove. It may raise StudioError. echo: hidden boxes that take a value of the request that was sent.
    before: makes an event of the button that runs first. axes: when one is chosen, Generate makes a grid.
    """
    from . import progress, results

    varied = axes.boxes if axes else {}
    inputs = {**form.fields, **(extra or {}), "model": page.model, **varied}
    names = list(inputs)
    outputs = [*panel.outputs, form.fields["seed"], *(echo or {}).values()]
    running = studio.current

    def generate(visitor: str, shown: list, locked: bool, *values: Any) -> Iterator[dict]:
        if _alive(running(visitor, form.task)):
            gr.Info("This tab is still making a picture. Wait for it, or press Stop.")
            return
        try:
            named = dict(zip(names, values, strict=True))
            chosen = {name: named.pop(name) for name in varied}
            request = make(form.request, **_without_blanks(form.request, prepare(named) if prepare else named))
            matrix = axes.matrix(request, chosen) if axes else None
            who = {"page": visitor, "owner": results.owner_of(visitor)}
            job = studio.submit_matrix(matrix, **who) if matrix else studio.submit(request, **who)
        except Exception as error:
            message = problem(error)
            yield progress.refuse(panel, message)
            raise toast(message) from None
        yield {**progress.begin(panel), **{box: getattr(request, name) or "" for name, box in (echo or {}).items()}}
        for update in progress.relay(panel, job, shown):
            if locked and update.get(panel.shown):
                update[form.fields["seed"]] = update[panel.shown][0].seed
            yield update or gr.skip()

    def attach(visitor: str) -> Iterator[dict]:
        earlier = results.today(studio, visitor, form.task)
        yield panel.show(earlier, 0)
        job = running(visitor, form.task)
        if job is None:
            return
        if not job.done:
            yield progress.begin(panel, "Still running ...")
        for update in progress.relay(panel, job, earlier, raise_failure=False):
            yield update or gr.skip()

    def stop(visitor: str) -> str:
        job = running(visitor, form.task)
        if not _alive(job):
            return "Nothing is running."
        job.stop()
        return "Stopping ..."

    def skip(visitor: str) -> str:
        job = running(visitor, form.task)
        if not _alive(job):
            return "Nothing is running."
        job.skip()
        return "Skipping this picture ..."

    def reuse(shown: list, selected: int) -> Any:
        return shown[selected].seed if shown else gr.skip()

    def lock(locked: bool, seed: float, shown: list, selected: int) -> Any:
        if not locked:
            return -1
        return shown[selected].seed if seed == -1 and shown else gr.skip()

    start = before(form.generate).then if before else form.generate.click
    start(generate, [page.visitor, panel.shown, form.lock, *inputs.values()], outputs, trigger_mode="once", **QUEUED)
    form.stop.click(stop, page.visitor, panel.status, **QUIET)
    form.skip.click(skip, page.visitor, panel.status, **QUIET)
    form.reuse.click(reuse, [panel.shown, panel.selected], form.fields["seed"], **QUIET)
    form.lock.input(lock, [form.lock, form.fields["seed"], panel.shown, panel.selected], form.fields["seed"], **QUIET)
    page.returning.append((attach, [page.visitor], panel.outputs))


def _without_blanks(cls: type[Request], values: dict[str, Any]) -> dict[str, Any]:
    """An empty choice means "as the model likes" where the request has that."""
    return {name: None if value == "" and cls.model_fields[name].default is None else value
            for name, value in values.items()}


def _alive(job: Any) -> bool:
    return job is not None and not job.done
