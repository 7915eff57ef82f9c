"""The training runs of a studio: their folders, how they stand, and starting, pausing and resuming them. No torch.

A run's process is its own (see run/follow.py). The studio's queue only keeps the device for it meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ...errors import Cancelled, RequestError, StudioError, quoted
from ...events import Event, Notice
from ...queue.job import Job
from ...settings import Settings
from ..request import TrainLora
from . import follow
from .folder import RunFolder

LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class TrainRun:
    """Ask for a run's process to be started, tried, resumed, or only waited for. name: of its folder."""

    name: str
    how: str  # begin, probe, resume or watch
    has_own_process: ClassVar = True


@dataclass(frozen=True)
class RunCard:
    """A run and how it stands."""

    name: str
    folder: Path
    config: TrainLora
    state: follow.RunState

    def with_turn(self, job: Job | None) -> RunCard:
        """Say of a run whose process is not there yet that it waits for its turn, or that it has just come."""
        if job is None or self.state.is_alive or has_begun(job):
            return self
        before = job.position
        return replace(self, state=replace(self.state, how="waiting" if before else "starting", before=before, text=""))


def turn(jobs: Iterable[Job], run: str) -> Job | None:
    """The job that keeps a run's turn, or waits for it."""
    return next((job for job in jobs if isinstance(job.request, TrainRun) and job.request.name == run), None)


def has_begun(job: Job) -> bool:
    """Whether a run's job has started its process, or has ended."""
    return bool(job.events)


class Runs:
    """Runs by name, each a folder in the data folder. Weights go to its loras, where prompts find them."""

    def __init__(self, settings: Settings):
        self._root = settings.data_dir / "runs"
        self._loras = settings.data_dir / "loras"

    def cards(self) -> tuple[RunCard, ...]:
        """Every run that can be read, newest first."""
        folders = sorted((path for path in self._root.glob("*") if RunFolder(path).config_file.is_file()),
                         key=lambda path: -RunFolder(path).config_file.stat().st_mtime)
        cards = []
        for folder in folders:
            try:
                cards.append(self.card(folder.name))
            except StudioError:
                continue  # damaged: nothing can be said of it, and the others stay usable
        return tuple(cards)

    def card(self, name: str) -> RunCard:
        """Look a run up. Raises RequestError for an unknown name."""
        if not name:
            raise RequestError("Run: none was chosen.", "name")
        for folder in self._root.glob("*"):
            if folder.name == name:
                return RunCard(name, folder, RunFolder(folder).config(), follow.state(folder))
        raise RequestError(f"Run: there is no {quoted(name)}.", "name")

    def prepare(self, config: TrainLora) -> str:
        """Make the folder of a new run and write its config; returns the run's name. An older one steps aside."""
        folder = RunFolder(self._root / config.name)
        if folder.is_alive:
            raise RequestError(f"Name: a run {config.name!r} is going on. Take another name, or stop it first.", "name")
        if folder.path.exists():
            folder.step_aside()
        self._loras.mkdir(parents=True, exist_ok=True)
        folder.write_config(config.model_copy(update={"output": str(self._loras)}))
        return config.name

    def ask(self, name: str, word: str) -> None:
        """Ask a running process to stop, pause, sample or save."""
        follow.ask(self.card(name).folder, word)

    def stop(self, name: str, job: Job | None) -> bool:
        """Take a run that waits out of the queue, or ask its process to stop; returns whether it waited."""
        if job is not None and job.request.how != "watch" and job.stop():
            return True
        self.ask(name, "stop")  # also when its turn is kept by nobody here: another program may have started it
        return False

    def work(self, job: Job, run: TrainRun, settings: Settings) -> Iterator[Event]:
        """Keep the queue's turn for as long as the run's process lives; Stop of the job stops the run.

        settings: what the process is told, with the device that was left to it.
        """
        folder = self.card(run.name).folder
        if run.how != "watch":
            if job.control.stop.is_set():  # while the device was made free for it
                raise Cancelled("Stopped.")
            (follow.probe if run.how == "probe" else follow.resume)(folder, settings)
        yield Notice(f"The run {run.name} begins.")
        asked = False
        while RunFolder(folder).is_alive:
            if job.control.stop.wait(LOOK_EVERY_S) and not asked:
                asked = True
                follow.ask(folder, "stop")
            elif asked:
                job.control.leave.wait(LOOK_EVERY_S)
        state = follow.state(folder)
        if state.how in ("failed", "killed"):
            raise StudioError(state.text or "The run failed.")
        yield Notice(state.text or f"The run {run.name} has ended.")
