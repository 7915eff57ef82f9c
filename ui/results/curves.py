"""What a training run's events look like on the page: one line, two curves, a strip of samples, a list of weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path

import pandas as pd

from pipelines.training import events
from pipelines.training.events import Event
from pipelines.training.run.follow import RunState

from .progress import duration, waiting_line

POINTS = 200  # of a curve; more would only make the page slow
COLOURS = ("#4c78a8", "#f58518", "#e45756", "#72b7b2", "#54a24b", "#eeca3b", "#b279a2", "#ff9da6", "#9d755d")
SMOOTHING = 0.06  # weight of the newest loss in the smoothed one
WORDS = {"new": "Not begun", "starting": "Starting", "running": "Training", "finished": "Finished",
         "stopped": "Stopped", "paused": "Paused", "probed": "Forecast made", "failed": "Failed",
         "killed": "Broken off"}


def status_line(state: RunState, log: Sequence[Event]) -> str:
    """Such as "Training: step 120 of 450 · loss 0.031 · 2.4 it/s · 2 min 18 s left"."""
    parts = [WORDS.get(state.how) or waiting_line(state.before)]
    if state.steps and state.how != "waiting":
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


def forecast_line(state: RunState, log: Sequence[Event]) -> str:
    """Such as "Forecast: 0.25 s a step, 8 pictures at once, 1.1 of 12.4 GB; all steps in 4 min 10 s, at 14:32"."""
    told = next((event for event in reversed(log) if isinstance(event, events.Forecast)), None)
    if told is None:
        return ""
    speed = f"{told.seconds_per_step:.2f} s a step, {told.micro_batch} picture{'s' * (told.micro_batch > 1)} at once"
    memory = f"{told.peak_bytes / 1e9:.1f} of {told.room_bytes / 1e9:.1f} GB"
    slower = ", with gradient checkpointing" if told.checkpointing else ""
    line = f"Forecast: {speed}{slower}, {memory}; all steps take about {duration(told.seconds_left)}"
    step = next((event for event in reversed(log) if isinstance(event, events.StepDone)), None)
    if state.how == "running":
        left = told.seconds_left if step is None else step.seconds_left
        line += f", done at {datetime.now() + timedelta(seconds=left):%H:%M}"
    return f"{line}."


def frame(log: Sequence[Event], what: str, said: Callable[[str], str] = str) -> pd.DataFrame:
    """Columns step, value, curve. what: of CURVES. said: the names in somebody's language.

    Every curve has a row, be it an empty one: a plot that is there takes in new values, but no new names.
    """
    steps = [event for event in log if isinstance(event, events.StepDone)]
    every = max(1, len(steps) // POINTS)
    rows: list[tuple[float, float, str]] = []
    drawn = CURVES[what](steps)
    names = list(drawn)
    for name, values in drawn.items():
        rows += [(event.step, value, name) for i, (event, value) in enumerate(zip(steps, values, strict=True))
                 if i % every == 0 or i == len(steps) - 1]
    if what == LOSS:
        held = [event for event in log if isinstance(event, events.HeldOut)]
        every = max(1, len(held) // POINTS)
        rows += [(event.step, round(event.loss, 6), HELD) for event in held[::every]]
        names.append(HELD)
    rows += [(math.nan, math.nan, name) for name in names if name not in {row[2] for row in rows}]
    # The types are said, because a plot that begins empty would take its numbers for names.
    points = pd.DataFrame(((step, value, said(name)) for step, value, name in rows), columns=["step", "value", "curve"])
    return points.astype({"step": float, "value": float, "curve": str})


def colours(points: pd.DataFrame) -> dict[str, str]:
    """A colour for each curve. Given with every update: a plot takes in new curves only when its colours change."""
    return dict(zip(dict.fromkeys(points["curve"]), cycle(COLOURS), strict=False))


def _losses(steps: Sequence[events.StepDone]) -> dict[str, list[float]]:
    return {"training, smoothed": [round(value, 6) for value in _smoothed([event.loss for event in steps])]}


def _smoothed(values: Sequence[float]) -> Iterator[float]:
    mean: float | None = None
    for value in values:
        mean = value if mean is None else (1 - SMOOTHING) * mean + SMOOTHING * value
        yield mean


LOSS, HELD = "Loss", "held out"
# Every curve there is, and its colour, the same wherever it is drawn.
COLOUR_OF = dict(zip(("training, smoothed", HELD, "training", "learning rate", "gradient norm"), COLOURS,
                     strict=False))
# What can be drawn: name -> (steps -> name of a curve -> its values).
CURVES = {
    LOSS: _losses,
    "Loss, each step": lambda steps: {"training": [round(event.loss, 6) for event in steps], **_losses(steps)},
    "Learning rate": lambda steps: {"learning rate": [event.learning_rate for event in steps]},
    "Gradient norm": lambda steps: {"gradient norm": [round(event.gradient_norm, 6) for event in steps]},
}


def samples(log: Sequence[Event], folder: Path) -> tuple[list[tuple[Path, str]], int]:
    """(file, caption) of each sample, the newest step first, and how many prompts a step has.

    A step whose samples are still being made is left out, unless it is the first: rows have to stay full.
    """
    made = [event for event in log if isinstance(event, events.SampleSaved) and (folder / event.file).is_file()]
    made.sort(key=lambda event: -event.step)
    counts = Counter(event.step for event in made)
    prompts = max(counts.values(), default=0)
    return [(folder / event.file, f"step {event.step}: {event.prompt}") for event in made
            if counts[event.step] == prompts], prompts


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


def signature(state: RunState, log: Sequence[Event]) -> list[object]:
    """Changes when there is something new to show."""
    return [state.how, state.before, state.step, len(log)]
