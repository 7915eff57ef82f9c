"""What a loop keeps count of, and what it asks of its surroundings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..events import Event

WORDS = ("stop", "pause", "sample", "save")


@dataclass
class Progress:
    """Everything of a state that is no tensor.

    rate_scale: factor of the learning rate. detour: counts rollbacks, so that the same steps draw other numbers.
    worse: measurements since the best one.
    """

    step: int = 0
    micro_batch: int = 1
    checkpointing: bool = False
    rate_scale: float = 1.0
    skipped: int = 0
    bad_in_a_row: int = 0
    detour: int = 0
    best_loss: float | None = None
    best_step: int = 0
    worse: int = 0


@dataclass(frozen=True)
class Hooks:
    """asked: words of WORDS that came in since the last call. export: writes the usable weights of a step into a
    folder, returns the file's name. sample: draws with the weights as they are."""

    asked: Callable[[], list[str]]
    export: Callable[[Path, int], str]
    sample: Callable[[int], Iterator[Event]]
