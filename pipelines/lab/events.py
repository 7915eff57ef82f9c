"""What a run of the lab reports, beside the Notice of pipelines/events.py. Values; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Started:
    """pictures, held_out: of the set. parameters: of the network. epoch: how many were done before."""

    pictures: int
    held_out: int
    parameters: int
    epoch: int
    device: str


@dataclass(frozen=True)
class Update:
    """One step of the optimizer. Newest wins."""

    step: int
    epoch: int
    loss: float
    learning_rate: float
    seconds_left: float


@dataclass(frozen=True)
class EpochDone:
    """Losses are means over the epoch and over the held-out pictures (None without any). samples: a sheet, or None."""

    epoch: int
    step: int
    loss: float
    held_out_loss: float | None
    seconds_left: float
    samples: Image.Image | None


@dataclass(frozen=True)
class Trained:
    """The end of a run. stopped: before its end, after having saved where it stood."""

    epoch: int
    step: int
    stopped: bool
