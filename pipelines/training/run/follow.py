"""Start a run as a process of its own, watch it, and steer it. What the page uses; imports no torch.

A run outlives who started it: its folder tells everything, so anybody may look again at any time.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import StudioError
from ...machine import processes
from ...settings import Settings
from ..events import CheckpointSaved, Ended, Event, Started, StepDone
from ..numbers.progress import WORDS
from ..request import TrainLora
from .folder import RunFolder, read_events, write_json

ROOT = Path(__file__).resolve().parents[3]
POLL_S = 0.25
TAIL = 400  # characters of the output that are repeated


@dataclass(frozen=True)
class RunState:
    """How a run stands. how: new, waiting, starting, running, finished, stopped, paused, probed, failed or killed.

    waiting: for its turn in the studio's queue, behind `before` jobs, which its folder does not tell. starting: there
    is a process, which has not said anything yet. step, steps: the last known. saved_step: of the newest state on disk.
    text: one sentence for the person.
    """

    how: str
    step: int = 0
    steps: int = 0
    saved_step: int = 0
    text: str = ""
    before: int = 0

    @property
    def is_alive(self) -> bool:
        return self.how in ("starting", "running")

    @property
    def can_resume(self) -> bool:
        return self.how in ("new", "stopped", "paused", "probed", "failed", "killed")


def begin(config: TrainLora, folder: Path, settings: Settings) -> subprocess.Popen:
    """Start a new run in a folder that does not hold one. Raises StudioError when it does.

    settings: here and below, what the process is told; it reads none by itself.
    """
    run = RunFolder(folder)
    if run.config_file.exists():
        raise StudioError(f"{folder.name[:80]}: there is a run in this folder already.")
    run.write_config(config)
    return _spawn(run, settings)


def resume(folder: Path, settings: Settings) -> subprocess.Popen:
    """Take a run up again in a new process. Raises StudioError when one is at it."""
    run = RunFolder(folder)
    run.config()
    if run.is_alive:
        raise StudioError(f"{folder.name[:80]}: this run is going on.")
    return _spawn(run, settings, "--resume")


def probe(folder: Path, settings: Settings) -> subprocess.Popen:
    """Try a few steps of a run that has not begun, in a new process, which ends with how "probed"."""
    return _spawn(RunFolder(folder), settings, "--probe")


def ask(folder: Path, word: str) -> None:
    """Ask a running process: stop or pause (both finish the step and save), sample, save."""
    if word not in WORDS:
        raise ValueError(f"{word!r} is none of {', '.join(WORDS)}")
    run = RunFolder(folder)
    status = run.status()  # by which process is asked, not by when: a clock may be set
    with run.commands_file.open("a", encoding="utf-8") as file:
        file.write(f"{word} {processes.name_of(status)}\n" if status else f"{word}\n")


def state(folder: Path) -> RunState:
    """How a run stands, from its folder alone."""
    run = RunFolder(folder)
    alive = run.is_alive
    events, _ = read_events(run)
    ends = [isinstance(event, Ended) for event in events if isinstance(event, Started | Ended)]
    # A process that ends in order takes its status with it, and the last thing it says is that.
    crashed = not alive and (run.status() is not None or bool(ends) and not ends[-1])
    return _judged(run, events, alive, crashed)


def follow(folder: Path, offset: int = 0, poll_s: float = POLL_S) -> Iterator[Event]:
    """The events of a run from a byte offset of its log on, as they come, until its process has ended.

    The last event is Ended in any case: for a process that died it is made here, with how "killed".
    """
    run = RunFolder(folder)
    last: Event | None = None
    while True:
        alive = run.is_alive  # asked first: what the process wrote before it died is read below
        events, offset = read_events(run, offset)
        for event in events:
            yield event
            last = event
        if not alive:
            break
        time.sleep(poll_s)
    if not isinstance(last, Ended):
        found = state(folder)
        yield Ended(found.step, found.how, found.text)


def history(folder: Path) -> list[Event]:
    """The events that count: what a process did after its last saved state is left out once another went on there."""
    events, _ = read_events(RunFolder(folder))
    kept: list[Event] = []
    for event in events:
        if isinstance(event, Started):
            kept = [one for one in kept if one.step <= event.step]
        kept.append(event)
    return kept


def _judged(run: RunFolder, events: list[Event], alive: bool, crashed: bool) -> RunState:
    step = steps = saved = 0
    for event in events:
        if isinstance(event, Started | StepDone):
            step, steps = event.step, event.steps
        elif isinstance(event, CheckpointSaved):
            saved = event.step
    ended = next((event for event in reversed(events) if isinstance(event, Ended)), None)
    if alive and not run.has_spoken:
        return RunState("starting", saved, steps, saved, "")
    if alive:
        return RunState("running", step, steps, saved, "")
    if crashed:
        lost = "" if step <= saved else f" The steps after {saved} are lost."
        text = f"The process ended without a word at step {step}: it was killed, or the machine stopped.{lost}"
        return RunState("killed", step, steps, saved, text + _last_words(run, step))
    if ended is None:
        return RunState("new", step, steps, saved, "Resume begins it.")
    return RunState(ended.how, ended.step, steps, saved, ended.text)


def _last_words(run: RunFolder, step: int) -> str:
    """The output's last line, when the process died before it could do anything."""
    try:
        lines = run.output_file.read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return f" It said: {lines[-1][-TAIL:]}" if lines and not step else ""


def _spawn(run: RunFolder, settings: Settings, *flags: str) -> subprocess.Popen:
    """Start the process apart from this one: it goes on when this one ends."""
    run.write_settings(settings)
    run.commands_file.unlink(missing_ok=True)  # from here on, what is asked is asked of the new process
    apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else {"start_new_session": True}
    with run.output_file.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-m", "pipelines.training", str(run.path.absolute()), *flags],
                                   cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **apart)
    # Until it has said so itself, that it lives is said for it; it writes the same.
    write_json(run.status_file, run.status_of(process.pid))
    return process
