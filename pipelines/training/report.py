"""Where the events of a run go: the event log, the terminal, and TensorBoard when its package is installed."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta
from typing import Any

from .events import CheckpointSaved, Ended, Event, Forecast, HeldOut, Notice, SampleSaved, Started, StepDone
from .folder import EventLog, RunFolder

PRINT_EVERY_S = 5.0


class Report:
    """Writes each event to every place. silent: a process of a team that does not lead."""

    def __init__(self, folder: RunFolder, *, tensorboard: bool, silent: bool = False):
        self._silent = silent
        self._log = None if silent else EventLog(folder)
        self._board = _board(folder) if tensorboard and not silent else None
        self._printed = 0.0

    def write(self, event: Event) -> None:
        if self._silent:
            return
        self._log.write(event)
        self._print(event)
        if self._board is not None:
            self._chart(event)

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    def _print(self, event: Event) -> None:
        line = _line(event)
        now = time.monotonic()
        if isinstance(event, StepDone):
            if now - self._printed < PRINT_EVERY_S and event.step < event.steps:
                return
            self._printed = now
        if line:
            print(line, file=sys.stderr if isinstance(event, Ended) and event.how == "failed" else sys.stdout,
                  flush=True)

    def _chart(self, event: Event) -> None:
        if isinstance(event, StepDone):
            for name, value in (("loss", event.loss), ("learning rate", event.learning_rate),
                                ("gradient norm", event.gradient_norm)):
                self._board.add_scalar(name, value, event.step)
        elif isinstance(event, HeldOut):
            self._board.add_scalar("held-out loss", event.loss, event.step)


def _board(folder: RunFolder) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder.path / "tensorboard"))


def _line(event: Event) -> str:
    if isinstance(event, Started):
        return (f"{event.pictures} pictures, {event.held_out} held out, {event.parameters:,} weights to train, "
                f"{event.device}; from step {event.step} to {event.steps}")
    if isinstance(event, StepDone):
        minutes, seconds = divmod(round(event.seconds_left), 60)
        return (f"step {event.step}/{event.steps}  loss {event.loss:.4f}  rate {event.learning_rate:.2e}  "
                f"gradient {event.gradient_norm:.3f}  {event.steps_per_s:.2f} steps/s  {minutes}:{seconds:02d} left")
    if isinstance(event, Forecast):
        return (f"{event.seconds_per_step:.2f} s a step, {event.micro_batch} pictures at once; "
                f"{event.peak_bytes / 1e9:.1f} of {event.room_bytes / 1e9:.1f} GB; done "
                f"{datetime.now() + timedelta(seconds=event.seconds_left):%d %b %H:%M}")
    if isinstance(event, HeldOut):
        return f"step {event.step}  held-out loss {event.loss:.4f}{' (best)' if event.best else ''}"
    if isinstance(event, CheckpointSaved):
        return f"step {event.step}  saved {event.folder}"
    if isinstance(event, SampleSaved):
        return f"step {event.step}  drew {event.file}"
    if isinstance(event, Notice):
        return event.text
    if isinstance(event, Ended):
        return f"{event.how}: {event.text}"
    return ""
