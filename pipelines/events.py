"""What a running job reports. Events are values: no tensors, no open files, nothing to close."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image


@dataclass(frozen=True)
class Queued:
    """position: jobs that will run before this one. loads: the only one of them brings a checkpoint into memory."""

    position: int
    loads: bool = False


@dataclass(frozen=True)
class Loading:
    """A checkpoint is being loaded. title: its name as the model picker shows it."""

    title: str


@dataclass(frozen=True)
class StepDone:
    """One denoising step. Newest wins: a reader that is late sees only the last one.

    step, steps: within the picture (or batch) being made, counted from 1.
    image, images: first picture of the batch, counted from 1, and how many the request makes.
    steps_per_s: smoothed. seconds_left: for the whole request.
    preview: a small RGB picture of the predicted x0, or None when none was due.
    doing: a sentence for step and steps.
    """

    step: int
    steps: int
    image: int
    images: int
    steps_per_s: float
    seconds_left: float
    preview: Image.Image | None = None
    doing: str = "Step {} of {}"


@dataclass(frozen=True)
class Stalled:
    """The running job has said nothing for much longer than one of its steps takes. seconds: for how long."""

    seconds: float


@dataclass(frozen=True)
class Notice:
    """One sentence about something that was changed or may surprise."""

    text: str


@dataclass(frozen=True)
class ImageReady:
    """A finished picture, before it is saved.

    request: the concrete request that makes exactly this picture alone (its seed, its prompt, batch 1).
    extra: infotext pairs that are no fields of the request, such as {"Mask blur": 4}.
    """

    image: Image.Image
    request: Any
    extra: dict[str, object]


@dataclass(frozen=True)
class Record:
    """A picture in the data folder. path is None when it could not be written; image holds it then."""

    path: Path | None
    infotext: str
    seed: int
    width: int
    height: int
    task: str
    seconds: float = 0.0
    image: Image.Image | None = None
    is_grid: bool = False

    @property
    def id(self) -> str:
        """Names the picture without saying where it lies: "2026-05-01/00007-41.png"; "" when it was not written."""
        return "" if self.path is None else f"{self.path.parent.name}/{self.path.name}"


@dataclass(frozen=True)
class Saved:
    """A picture was stored (or could not be: then record.path is None and a Notice says why)."""

    record: Record


@dataclass(frozen=True)
class Pictured:
    """A picture, or an animation, that a page of the lab made. It is no record: Image info knows nothing of it."""

    path: Path
    caption: str


@dataclass(frozen=True)
class Tabled:
    """Numbers or words that a page of the lab found, such as a curve's points or a prompt's tokens."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple, ...]


@dataclass(frozen=True)
class Finished:
    """The job's end. stopped: it was ended by Stop, by Skip of the last picture or by an absent page."""

    records: tuple[Record, ...]
    seconds: float
    stopped: bool = False


@dataclass(frozen=True)
class Failed:
    """The job's end with an error. error: always a StudioError; foreign ones are wrapped with an id."""

    error: Exception


Event = Queued | Loading | StepDone | Stalled | Notice | ImageReady | Saved | Pictured | Tabled | Finished | Failed
