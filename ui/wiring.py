"""How events are wired: which go through the queue, and how an error reaches a person."""

from __future__ import annotations

import html
import logging
import uuid
from collections.abc import Callable
from typing import Any, Literal, TypedDict, TypeVar

import gradio as gr

from pipelines.errors import StudioError
from pipelines.queue.job import Job

from .language import said

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Options(TypedDict, total=False):
    """Keyword arguments of an event's listener, as Gradio names them."""

    queue: bool
    show_progress: Literal["full", "minimal", "hidden"]
    show_progress_on: gr.components.Component
    api_visibility: Literal["public", "private", "undocumented"]
    concurrency_limit: int | None


# Small events skip the queue: it counts all events, and a full queue would refuse even a click on Stop. They must not
# fail, because the page shows no message for an error outside the queue.
QUIET: Options = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
# Events that may fail or that relay a job's news. They do no heavy work, so there may be as many as there are pages.
QUEUED: Options = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}


def apart(options: Options, line: gr.components.Component) -> Options:
    """Options of an event that changes the mask editor, or the tabs it lies in.

    Gradio 6 asks every component that ever showed an event's progress for its value whenever any event reports, and
    the mask editor answers by uploading its picture. line: the component that shows the progress instead.
    """
    return {**options, "show_progress_on": line}


def problem(error: BaseException) -> str:
    """Say an error to a person: ours in their own words, any other by an id that is found in the log."""
    if isinstance(error, StudioError):
        return str(error)
    name = uuid.uuid4().hex[:6]
    log.error("unexpected error %s", name, exc_info=error)
    return f"Something went wrong (id {name})"


def toast(message: str) -> gr.Error:
    """The error to raise. A toast is rendered as HTML, and the message may repeat what somebody typed."""
    return gr.Error(html.escape(said(message)), title=said("Error"), print_exception=False)


def inform(message: str) -> None:
    """Show a toast that is no error."""
    gr.Info(html.escape(said(message)), title=said("Info"))


def guarded(handler: Callable[..., Result]) -> Callable[..., Result]:
    """Turn whatever a handler raises into a toast with one readable sentence."""

    def call(*values: Any) -> Result:
        try:
            return handler(*values)
        except gr.Error:
            raise
        except Exception as error:
            raise toast(problem(error)) from None

    return call


def told(job: Job | None, tell: Callable[[Job], object]) -> str | dict:
    """Tell a running job something; the relay says what came of it."""
    if job is None or job.done:
        return "Nothing is running."
    tell(job)
    return gr.skip()


def alive(job: Job | None) -> bool:
    """Whether there is a job that has not ended."""
    return job is not None and not job.done
