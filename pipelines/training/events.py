"""What a training run reports, as values, and how they stand in its event log: one JSON table a line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args


@dataclass(frozen=True)
class Started:
    """A process took the run up after `step`. What the log says of later steps before this line was lost."""

    step: int
    steps: int
    pictures: int
    held_out: int
    parameters: int
    device: str


@dataclass(frozen=True)
class StepDone:
    """One update. loss: of the pictures in it. gradient_norm: before clipping."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    gradient_norm: float
    steps_per_s: float
    seconds_left: float


@dataclass(frozen=True)
class Forecast:
    """What a few steps tell of the rest, samples and measurements included. step: 0 before the first one counts.

    peak_bytes: most memory taken, on the device; of the process on a CPU. room_bytes: what it could take.
    micro_batch: pictures computed at once.
    """

    step: int
    seconds_per_step: float
    seconds_left: float
    peak_bytes: int
    room_bytes: int
    micro_batch: int
    checkpointing: bool


@dataclass(frozen=True)
class HeldOut:
    """Mean loss of the held-out pictures at fixed noise and timesteps. best: the lowest so far."""

    step: int
    loss: float
    best: bool


@dataclass(frozen=True)
class Skipped:
    """An update that was left out because loss or gradient was not finite. in_all: since the run began."""

    step: int
    in_all: int


@dataclass(frozen=True)
class SampleSaved:
    """A picture made by the weights of `step`. file: relative to the run folder."""

    step: int
    file: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class CheckpointSaved:
    """The exact state after `step` is on disk. folder, file (the usable weights): relative to the run folder."""

    step: int
    folder: str
    file: str


@dataclass(frozen=True)
class Notice:
    """One sentence about something that was changed or may surprise."""

    step: int
    text: str


@dataclass(frozen=True)
class Ended:
    """The end of a process. how: finished, stopped, paused, probed or failed. file: of the result."""

    step: int
    how: str
    text: str
    file: str = ""


Event = Started | StepDone | Forecast | HeldOut | Skipped | SampleSaved | CheckpointSaved | Notice | Ended
KINDS = {cls.__name__: cls for cls in get_args(Event)}


def to_line(event: Event, at: float) -> str:
    """One line of the log. at: seconds since 1970."""
    return json.dumps({"event": type(event).__name__, "at": round(at, 3), **asdict(event)}, ensure_ascii=False)


def from_line(line: str) -> Event | None:
    """Read a line of the log; None for a damaged one and for kinds of a newer version."""
    try:
        table: dict[str, Any] = json.loads(line)
        cls = KINDS[table["event"]]
        return cls(**{field.name: table[field.name] for field in fields(cls)})
    except (ValueError, TypeError, KeyError):
        return None
