"""What a training run's events look like on the page: one line, two curves, a strip of samples, a list of weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.training import events
from pipelines.training.events import Event
from pipelines.training.follow import RunState

from .progress import duration

POINTS = 200  # of a curve; more would only make the page slow
SMOOTHING = 0.06  # weight of the newest loss in the smoothed one
WORDS = {"new": "Not begun", "running": "Training", "finished": "Finished", "stopped": "Stopped", "paused": "Paused",
         "failed": "Failed", "killed": "Broken off"}


def status_line(state: RunState, log: Sequence[Event]) -> str:
    """Such as "Training: step 120 of 450 · loss 0.031 · 2.4 it/s · 2 min 18 s left"."""
    parts = [WORDS.get(state.how, state.how)]
    if state.steps:
        parts[0] += f": step {state.step} of {state.steps}"
    step = next((event for event in reversed(log) if isinstance(event, events.StepDone)), None)
    if state.how == "running" and step is not None:
        speed = step.steps_per_s
        parts.append(f"{speed:.1f} it/s" if speed >= 1 else f"{1 / max(speed, 1e-9):.1f} s/it")
        parts.append(f"{duration(step.seconds_left)} left")
    elif state.how == "running":
        parts.append("looking at the pictures")
    if state.text:
        parts.append(state.text)
    return " · ".join(parts)


def loss_frame(log: Sequence[Event]) -> pd.DataFrame:
    """Columns step, loss, curve. The training loss smoothed, the held-out loss as measured."""
    rows: list[tuple[int, float, str]] = []
    mean: float | None = None
    steps = [event for event in log if isinstance(event, events.StepDone)]
    every = max(1, len(steps) // POINTS)
    for i, event in enumerate(steps):
        mean = event.loss if mean is None else (1 - SMOOTHING) * mean + SMOOTHING * event.loss
        if i % every == 0 or i == len(steps) - 1:
            rows.append((event.step, round(mean, 6), "training, smoothed"))
    held = [event for event in log if isinstance(event, events.HeldOut)]
    every = max(1, len(held) // POINTS)
    rows += [(event.step, round(event.loss, 6), "held out") for event in held[::every]]
    # The types are said, because a plot that begins empty would take its numbers for names.
    return pd.DataFrame(rows, columns=["step", "loss", "curve"]).astype({"step": float, "loss": float, "curve": str})


def samples(log: Sequence[Event], folder: Path) -> list[tuple[Path, str]]:
    """(file, caption), the newest step first."""
    made = [event for event in log if isinstance(event, events.SampleSaved)]
    made.sort(key=lambda event: -event.step)
    return [(folder / event.file, f"step {event.step}: {event.prompt}") for event in made
            if (folder / event.file).is_file()]


def weights(log: Sequence[Event], name: str) -> list[str]:
    """Names that a prompt can use: the result first, then the checkpoints that are kept, newest first."""
    saved = [Path(event.file).stem for event in log if isinstance(event, events.CheckpointSaved)
             and event.file.endswith(".safetensors") and Path(event.file).stem != "state"]
    finished = [name] if any(isinstance(event, events.Ended) and event.how == "finished" for event in log) else []
    return [*finished, *dict.fromkeys(reversed(saved))]


def notices(log: Sequence[Event]) -> str:
    """The last sentences that the run has said."""
    told = [event.text for event in log if isinstance(event, events.Notice)]
    skipped = [event for event in log if isinstance(event, events.Skipped)]
    if skipped:
        told.append(f"{skipped[-1].in_all} updates were left out, because their loss was no finite number.")
    return "\n".join(told[-3:])


def signature(state: RunState, log: Sequence[Event]) -> list[Any]:
    """Changes when there is something new to show."""
    return [state.how, state.step, len(log)]
