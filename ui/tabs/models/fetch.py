"""Fetch a model from the internet: for the owner of a page that nobody else can reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gradio as gr

from pipelines.downloads import Checking, Downloaded, DownloadFailed, Downloading, Paused, Stopped
from pipelines.downloads.events import DownloadEvent
from pipelines.errors import StudioError
from pipelines.library import KINDS
from pipelines.studio.studio import Studio

from ...language import said
from ...results.progress import duration
from ...tab import Page
from ...wiring import QUEUED, QUIET, problem
from .shelf import Shelf
from .starters import Starters
from .words import size

TICK_S = 1
WHAT = {"pause": "Pause", "resume": "Go on", "stop": "Give up"}


@dataclass(frozen=True)
class Fetch:
    """The controls of the downloads."""

    source: gr.Textbox
    start: gr.Button
    list: gr.Radio
    tools: gr.Row
    buttons: dict[str, gr.Button]
    message: gr.Textbox
    timer: gr.Timer


def build(studio: Studio) -> Fetch | None:
    """Build the form inside the current column; nothing but the reason, where nobody may fetch."""
    gr.Markdown("### Download", elem_classes="step")
    try:
        studio.collection.downloads.refuse()
    except StudioError as reason:
        text = str(reason).removeprefix("Download: ")
        gr.Markdown(text[:1].upper() + text[1:], elem_classes="hint")
        return None
    source = gr.Textbox("", label="What", max_lines=1, elem_id="models-source",
                        placeholder="someone/model, civitai:123 or https://...",
                        info="A name of the Hugging Face hub, civitai: and a number, or an address. The file is "
                             "checked and put into the folder of its kind.")
    start = gr.Button("Download", size="lg", elem_id="models-download")
    message = gr.Textbox("", label="Message", show_label=False, container=False, interactive=False, max_lines=3,
                         elem_classes="line strong", elem_id="models-download-line")
    listed = gr.Radio([], label="Downloads", show_label=False, container=False, elem_id="models-downloads")
    with gr.Row(elem_classes="send", visible=False) as tools:
        buttons = {name: gr.Button(label, size="sm", min_width=60, elem_id=f"models-{name}")
                   for name, label in WHAT.items()}
    return Fetch(source, start, listed, tools, buttons, message, gr.Timer(TICK_S, active=False))


def wire(studio: Studio, page: Page, fetch: Fetch | None, shelf: Shelf, starters: Starters) -> None:
    """Start, show, pause, resume and stop downloads. The server refuses all of it where others reach the page.

    starters: another list to choose from (starters.py).
    """
    if fetch is None:
        return
    shown = [fetch.list, fetch.tools, *fetch.buttons.values()]
    timers = [fetch.timer, shelf.timer]

    def stand(id: str | None, chosen: str | None = None) -> tuple:
        """The list and the buttons that fit what is chosen in it; chosen: what is to be, where the page has not."""
        listed = [one for one in reversed(studio.collection.downloads.list()) if not isinstance(one.state, Stopped)]
        known = {one.id: one for one in listed}
        if chosen or id not in known:
            chosen = chosen or next((one.id for one in listed if possible(one.state)), None)
        looked_at = chosen or id
        wanted = possible(known[looked_at].state) if looked_at in known else ()
        choices = [(said(told(one.state)), one.id) for one in listed]
        keeps = id in known and not chosen  # a click of this moment is not to be undone
        return (gr.Radio(choices) if keeps else gr.Radio(choices, value=chosen), gr.Row(visible=bool(wanted)),
                *(gr.Button(visible=name in wanted) for name in WHAT))

    def follow(id: str | None) -> tuple:
        running = any(download.is_running for download in studio.collection.downloads.list())
        # A download that has ended is in the library after one more look, and no longer on its way.
        return (*stand(id), gr.Timer(active=running), *((gr.skip(), gr.skip()) if running else (
            gr.Timer(active=True), "")))

    def start(source: str, id: str | None) -> tuple:
        try:
            download = studio.collection.download(source or "")
        except Exception as error:
            return (problem(error), gr.skip(), *(gr.skip(),) * len([*shown, *timers]))
        return (f"{download.title} is on its way.", "", *stand(id, download.id), gr.Timer(active=True), gr.skip())

    def change(what: str) -> Callable[[str | None], tuple]:
        def ask(id: str | None) -> tuple:
            try:
                if not id:
                    raise StudioError("Choose a download first.")
                studio.collection.change_download(id, what)
            except Exception as error:
                return (problem(error), *(gr.skip(),) * len([*shown, *timers]))
            return ("", *stand(id), gr.Timer(active=True), gr.skip())
        return ask

    outputs = [fetch.message, fetch.source, *shown, *timers]
    gr.on([fetch.start.click, fetch.source.submit], start, [fetch.source, fetch.list], outputs, trigger_mode="once",
          **QUEUED)
    starters.start.click(start, [starters.choice, fetch.list], outputs, trigger_mode="once", **QUEUED).then(
        None, js="() => atelier.reach('models-download-line')", **QUIET)
    fetch.timer.tick(follow, fetch.list, [*shown, *timers, fetch.message], **QUIET)
    fetch.list.input(stand, fetch.list, shown, **QUIET)
    page.returning.append((lambda id: follow(id) if studio.collection.downloads.list() else None, [fetch.list],
                           [*shown, *timers, fetch.message]))
    for what, button in fetch.buttons.items():
        button.click(change(what), fetch.list, [fetch.message, *shown, *timers], **QUIET)


def possible(state: DownloadEvent) -> tuple[str, ...]:
    """What can be asked of a download that stands like this: keys of WHAT."""
    match state:
        case Downloading():
            return "pause", "stop"
        case Paused() | DownloadFailed(can_resume=True):
            return "resume", "stop"
    return ()


def told(state: DownloadEvent) -> str:
    """How a download stands, in one line."""
    match state:
        case Downloading(title, done, total, speed, left):
            share = f"{done / total:.0%} of {size(total)}" if total else size(done)
            pace = f", {size(int(speed))}/s" if speed else ""
            return f"{title}: {share}{pace}{f', {duration(left)} left' if left else ''}"
        case Checking(title):
            return f"{title}: comparing hashes"
        case Paused(title, done, total):
            return f"{title}: paused at {done / total:.0%} of {size(total)}" if total else f"{title}: paused"
        case Downloaded(title, kind, name):
            return f"{title}: done. It is the {KINDS[kind]} {name}"
        case Stopped(title):
            return f"{title}: given up"
        case DownloadFailed(title, error, can_resume):
            return f"{title}: {str(error).removeprefix('Download: ')}{' Go on tries again.' if can_resume else ''}"
