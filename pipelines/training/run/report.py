"""Where the events of a run go: the event log, the terminal, and TensorBoard and Weights & Biases when installed."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..events import CheckpointSaved, Ended, Event, Forecast, HeldOut, Notice, SampleSaved, Started, StepDone
from ..request import TrainLora
from .folder import EventLog, RunFolder

PRINT_EVERY_S = 5.0


class Report:
    """Writes each event to every place. silent: a process of a team that does not lead."""

    def __init__(self, folder: RunFolder, config: TrainLora, *, silent: bool = False):
        self._silent = silent
        self._log = None if silent else EventLog(folder)
        self._boards: list[Board] = []
        self._printed = 0.0
        for wanted, make in ((config.tensorboard, _tensorboard), (config.wandb, _wandb)):
            if wanted and not silent:
                board = make(folder, config, self.write)
                self._boards += [board] if board else []

    def write(self, event: Event) -> None:
        if self._silent:
            return
        self._log.write(event)
        self._print(event)
        for name, value in _numbers(event):
            for board in self._boards:
                board.add(name, value, event.step)

    def close(self) -> None:
        for board in self._boards:
            board.close()

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


@dataclass(frozen=True)
class Board:
    """A program that draws curves. add: takes name, value and step."""

    add: Callable[[str, float, int], None]
    close: Callable[[], None]


def _numbers(event: Event) -> Iterator[tuple[str, float]]:
    if isinstance(event, StepDone):
        yield from (("loss", event.loss), ("learning rate", event.learning_rate),
                    ("gradient norm", event.gradient_norm))
    elif isinstance(event, HeldOut):
        yield "held-out loss", event.loss


def _tensorboard(folder: RunFolder, config: TrainLora, tell: Callable[[Event], None]) -> Board | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None  # it is on by default, and nothing depends on it
    writer = SummaryWriter(str(folder.path / "tensorboard"))
    return Board(writer.add_scalar, writer.close)


def _wandb(folder: RunFolder, config: TrainLora, tell: Callable[[Event], None]) -> Board | None:
    try:
        import wandb

        run = wandb.init(project="atelier", name=config.name, dir=folder.path, id=_wandb_id(folder), resume="allow",
                         config=config.model_dump(exclude={"data", "output", "prior_data"}),
                         settings=wandb.Settings(silent=True))
        run.define_metric("*", step_metric="step")  # its own counter refuses what a run that went back does again
    except ImportError:
        tell(Notice(0, "Weights & Biases does not take part: its package, wandb, is not installed."))
        return None
    except Exception as error:  # not logged in, no network: the run does not depend on it
        tell(Notice(0, f"Weights & Biases does not take part: {type(error).__name__}. Log in once with `wandb login`."))
        return None
    return Board(lambda name, value, step: run.log({name: value, "step": step}), run.finish)


def _wandb_id(folder: RunFolder) -> str:
    """The same for a run that goes on, another one for a run of the same name."""
    return hashlib.sha256(f"{folder.path.name} {folder.config_file.stat().st_mtime_ns}".encode()).hexdigest()[:16]


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
