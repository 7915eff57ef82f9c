"""All jobs in one place: whoever asks sees their own, the page's owner sees all of them and ends any."""

from __future__ import annotations

import gradio as gr

from pipelines.errors import StudioError
from pipelines.queue.job import Job
from pipelines.requests import Request
from pipelines.studio.studio import Studio
from pipelines.sweeps.grid import Matrix
from pipelines.sweeps.series import Series

from .language import said
from .preferences import opener, panel
from .results.panel import SEND_LABELS
from .results.progress import duration
from .visitors import asking, owner_of
from .wiring import QUEUED, guarded

PANEL = "queue-panel"
SHOWN_OWNER = 6  # digits by which two visitors are told apart
Listed = tuple[gr.Dropdown, str, gr.Button, gr.Button, gr.Button]  # the jobs, a message, and what can be done


def button() -> gr.Button:
    """Build the button that opens the panel."""
    return gr.Button("Jobs", size="sm", min_width=48, elem_classes="queue-open", elem_id="queue-open")


def build(studio: Studio, visitor: gr.Textbox, opening: gr.Button) -> None:
    """Build the panel. opening: the button that opens it."""
    with panel(PANEL, "Jobs"):
        jobs = gr.Dropdown([], label="Job", filterable=False, elem_id="queue-jobs",
                           info="The one that runs, then those that wait, in their order.")
        with gr.Row(elem_classes="jobs-actions"):
            end = gr.Button("End this job", size="sm", min_width=60, elem_id="queue-end")
            end_all = gr.Button("End all jobs of its visitor", size="sm", min_width=60, elem_id="queue-end-all")
            restart = gr.Button("Restart the worker", size="sm", min_width=60, elem_id="queue-restart", visible=False)
        line = gr.Textbox("", label="Message about jobs", show_label=False, container=False, interactive=False,
                          max_lines=2, elem_classes="line strong", elem_id="queue-message")
    outputs = [jobs, line, end, end_all, restart]

    def listed(page: str, words: str = "") -> Listed:
        choices = [(described(job, page), job.id) for job in visible(studio, page)]
        some = bool(choices)
        return (gr.Dropdown(choices=choices, value=choices[0][1] if some else None, interactive=some),
                said(words or ("" if some else "No job runs or waits.")),
                gr.Button(interactive=some), gr.Button(interactive=some), gr.Button(visible=asking().is_owner))

    def chosen(page: str, id: str | None) -> Job:
        job = next((job for job in visible(studio, page) if job.id == id), None)
        if job is None:
            raise StudioError("Job: this one has ended, or it is not yours.")
        return job

    def end_one(page: str, id: str | None) -> Listed:
        studio.end(chosen(page, id).id)
        return listed(page, "The job ends; its finished pictures stay.")

    def end_theirs(page: str, id: str | None) -> Listed:
        count = studio.end(owner=chosen(page, id).owner)
        return listed(page, "1 job ends." if count == 1 else f"{count} jobs end.")

    def restarted(page: str) -> Listed:
        if not asking().is_owner:
            raise StudioError("Only the owner of the page can restart the worker.")
        studio.restart_worker()
        return listed(page, "The worker was restarted, and the model is loaded anew for the next job.")

    opener(opening, PANEL)
    opening.click(guarded(listed), visitor, outputs, **QUEUED)
    end.click(guarded(end_one), [visitor, jobs], outputs, **QUEUED)
    end_all.click(guarded(end_theirs), [visitor, jobs], outputs, **QUEUED)
    restart.click(guarded(restarted), visitor, outputs, **QUEUED)


def visible(studio: Studio, page: str) -> list[Job]:
    """The jobs that whoever asks may see and end."""
    mine = owner_of(page)
    return [job for job in studio.jobs() if asking().is_owner or mine and job.owner == mine]


def described(job: Job, page: str) -> str:
    """A job in a line, such as "runs · Text to image · 512 x 512 px, 20 steps, 4 pictures · guest 3f2a91"."""
    place = said(f"{job.position} before it" if job.position else "runs")
    parts = [place, said(SEND_LABELS.get(job.task, job.task)), *_size(job.request)]
    if job.stalled_s:
        parts.append(said(f"nothing for {duration(job.stalled_s)}"))
    if job.owner and job.owner != owner_of(page):
        short = job.owner[-SHOWN_OWNER:]
        parts.append(said(f"guest {short}" if job.is_guest else f"visitor {short}"))
    return " · ".join(parts)


def _size(request: object) -> list[str]:
    base = getattr(request, "base", request)
    if not isinstance(base, Request):
        return []
    count = len(request) if isinstance(request, Matrix | Series) else base.image_count
    pictures = said("1 picture" if count == 1 else f"{count} pictures")
    if not (base.width and base.height):
        return [pictures]
    size = f"{base.width} × {base.height} px"
    return [said(f"{size}, {base.steps} steps"), pictures]
