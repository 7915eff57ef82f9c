"""From a job's events to what the page shows. The relay only tells; the job itself runs on in the studio."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from pipelines import events
from pipelines.queue.job import Job
from pipelines.requests import Inpaint, Request
from pipelines.studio.studio import Studio

from ..language import said
from ..wiring import problem, toast
from .panel import Lines, Panel, Shown, joined

PREVIEW_GAP_S = 0.25  # every preview is a file in the cache and a download of the page
PREVIEW_SIDE_PX = 512
PACE_S = 0.15  # fast steps come by the hundred in a second; a page that gets each of them falls behind
IDLE_S = 1.0  # how often a relay looks whether its page is still there


def status_lines(task: str) -> Lines:
    """The place under the buttons where a run reports. Its room is kept, so nothing moves when a run starts."""
    with gr.Column(elem_classes="report", min_width=0):
        progress_bar = gr.HTML(bar("idle"), elem_classes="bar-holder", padding=False)
        status = gr.Textbox("Ready", label="Status", show_label=False, container=False, interactive=False, lines=1,
                            max_lines=2, elem_classes="line strong status", elem_id=f"{task}-status")
        notices = gr.Textbox("", label="Notices", show_label=False, container=False, interactive=False, lines=1,
                             max_lines=4, elem_classes="line strong notices", elem_id=f"{task}-notices")
    return status, progress_bar, notices


def begin(panel: Panel, message: str = "Starting ...") -> dict:
    """Clear what the last run said; its pictures stay."""
    return {panel.status: message, panel.bar: bar("running"), panel.notices: "",
            panel.empty: gr.Column(visible=False), **panel.uncovered()}


def refuse(panel: Panel, message: str) -> dict:
    """Say near the button why there is no picture."""
    return {panel.status: message, panel.bar: bar("failed")}


def relay(panel: Panel, job: Job, earlier: list[Shown], raise_failure: bool = True) -> Iterator[dict]:
    """Yield component updates until the job has ended, at a pace that a slow browser can follow.

    earlier: what the strip held before. Raises gr.Error at the end of a failed job, unless told not to.
    """
    made: list[Shown] = []
    told: list[str] = []
    update: dict = {}
    failure = ""
    last_yield = last_preview = 0.0
    request = getattr(job.request, "base", job.request)  # of a grid: the request that is varied
    best = 0 if request is job.request else -1  # what is looked at in the end: the first picture, or the X/Y/Z grid
    for event in job.follow():
        now = time.monotonic()
        match event:
            case events.StepDone():
                update |= {panel.status: step_line(event), panel.bar: bar("running", event, request)}
                if event.preview is not None and now - last_preview >= PREVIEW_GAP_S:
                    last_preview = now
                    with suppress(OSError):  # a full disk: without previews the rest is told all the same
                        update[panel.picture] = save_pil_to_cache(enlarged(event.preview, request), get_upload_folder(),
                                                                  format="jpeg")
            case events.Saved(record):
                try:
                    made.append(Shown.of(record))
                except OSError as error:  # what is shown is a copy, and the disk may be full; the run goes on
                    told.append(f"A picture could not be shown: {error.strerror or 'the disk refused'}. Seed "
                                f"{record.seed} makes it again.")
                    update[panel.notices] = "\n".join(told)
                else:
                    update |= panel.show(joined(made, earlier), len(made) - 1)
            case events.Notice(text):
                if text not in told:  # the pictures of a grid have much in common
                    told.append(text)
                update[panel.notices] = "\n".join(told)
            case events.Stalled(seconds):
                update[panel.status] = stalled_line(seconds)
            case events.Queued(position, loads):
                update[panel.status] = waiting_line(position, loads)
            case events.Loading(title):
                update[panel.status] = f"Loading {title} ..."
            case events.Finished():
                many = request is not job.request
                update |= {panel.status: finished_line(event, many), panel.bar: bar("done"),
                           **_settled(panel, made, earlier, best)}
            case events.Failed(error):
                failure = problem(error)
                update |= {**_settled(panel, made, earlier, best), **refuse(panel, failure)}
        ended = isinstance(event, events.Finished | events.Failed)
        if ended or now - last_yield >= (PACE_S if update else IDLE_S):
            yield update
            update, last_yield = {}, now
    if failure and raise_failure:
        raise toast(failure)


def _settled(panel: Panel, made: list[Shown], earlier: list[Shown], best: int) -> dict:
    # A run that is stopped or fails leaves a preview behind: put a finished picture back.
    return panel.show(joined(made, earlier), best % len(made)) if made else panel.show(earlier, 0)


def enlarged(preview: Image.Image, request: Request) -> Image.Image:
    """Bring a small preview near the size of the picture, so that nothing jumps when the picture arrives."""
    width, height = preview.size
    if not isinstance(request, Inpaint) and request.width and request.height:
        width, height = request.width, request.height
    factor = min(1.0, PREVIEW_SIDE_PX / max(width, height))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return preview if preview.size == size else preview.resize(size, Image.Resampling.BILINEAR)


def bar(state: str, event: events.StepDone | None = None, request: Request | None = None) -> str:
    """The progress bar. Only numbers and our own words go in; the page's script reads the data attributes."""
    share = left = 0.0
    if event is not None:
        share = (event.image - 1 + event.step / max(event.steps, 1)) / max(event.images, 1)
        left = event.seconds_left
    share = min(max(share, 0.0), 1.0)
    size = ""
    if request is not None and not isinstance(request, Inpaint):
        size = f' data-width="{request.width or 0:d}" data-height="{request.height or 0:d}"'
    return (f'<div class="bar" role="progressbar" aria-label="{said("Progress")}" aria-valuemin="0" '
            f'aria-valuemax="100" aria-valuenow="{100 * share:.0f}" data-state="{state}" data-left="{left:.0f}"{size}>'
            f'<i style="width:{100 * share:.1f}%"></i></div>')


def step_line(event: events.StepDone) -> str:
    """Such as "Step 7 of 20 · picture 2 of 4 · 11.2 it/s · 1 s left"."""
    parts = [event.doing.format(event.step, event.steps)]
    if event.images > 1:
        parts.append(f"picture {event.image} of {event.images}")
    speed = event.steps_per_s
    if speed > 0:
        parts.append(f"{speed:.1f} it/s" if speed >= 1 else f"{1 / speed:.1f} s/it")
        parts.append(f"{duration(event.seconds_left)} left")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Such as "8 s" or "2 min 5 s"."""
    whole = max(0, round(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def waiting_line(position: int, loads: bool = False) -> str:
    """Where a job stands in the queue. loads: the one before it loads a model."""
    if position <= 0:
        return "Starting ..."
    if loads:
        return "Waiting for the model to be loaded ..."
    return f"Waiting: {position} {'job' if position == 1 else 'jobs'} before this one"


def stalled_line(seconds: float) -> str:
    """What is said of a run that hangs, and what can be done."""
    return (f"Nothing has come for {duration(seconds)}. Press Stop; if it goes on so, open Jobs above and restart the "
            f"worker.")


def queue_line(studio: Studio) -> str:
    """Such as "CPU, 2 threads, float32 · 1 in the queue"."""
    status = studio.status()
    waiting = f"{status.queue_length} in the queue" if status.queue_length else "queue empty"
    return " · ".join(filter(None, (status.device_line, waiting)))


def finished_line(event: events.Finished, many: bool = False) -> str:
    """How a run ended and what it left. many: it was a grid or a series, which goes on when it is asked for again."""
    count = sum(not record.is_grid for record in event.records)
    pictures = f"{count} {'picture' if count == 1 else 'pictures'}"
    if event.stopped and not count:
        return "Stopped before the first picture was ready."
    if event.stopped:
        return f"Stopped. {pictures} kept.{' Generate goes on from here.' if many else ''}"
    lines = [f"{pictures} in {event.seconds:.1f} s"]
    if count > 1:
        lines.append(f"{event.seconds / count:.1f} s each")
    return " · ".join(lines)
