"""Training runs and the queue: how a run stands that waits for its turn, ending it, and who may train at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import RequestError, StudioError
from ..queue.job import Job
from ..settings import Settings
from ..training.run.store import RunCard, Runs, has_begun, turn


@dataclass(frozen=True)
class Training:
    """jobs: gives the job that runs, and those that wait."""

    settings: Settings
    runs: Runs
    jobs: Callable[[], tuple[Job, ...]]

    def run(self, name: str) -> RunCard:
        """Look up a run and how it stands, in the queue too. Raises RequestError for an unknown name."""
        return self.runs.card(name).with_turn(turn(self.jobs(), name))

    def stop(self, name: str) -> bool:
        """End a run, and return whether it waited: one that waits leaves the queue, one that works finishes its step
        and saves."""
        return self.runs.stop(name, turn(self.jobs(), name))

    @property
    def refusal(self) -> str:
        """Why nobody may train on this page, "" when they may."""
        if self.settings.is_public and not self.settings.guests_may_train:
            return ("Training is switched off while others can reach this page. Its owner can allow it with "
                    "--guests-may-train.")
        return ""

    def check_allowed(self) -> None:
        """Raise StudioError where nobody may train."""
        if self.refusal:
            raise StudioError(self.refusal)

    def check_not_waiting(self, run: str) -> None:
        """Raise RequestError for a run that is queued already: a new one of its name would take its folder, and one
        that was stopped meanwhile would begin again by itself."""
        job = turn(self.jobs(), run)
        if job is not None and not has_begun(job):
            raise RequestError(f"Name: a run {run!r} waits for its turn. Take another name, or wait for it.", "name")
