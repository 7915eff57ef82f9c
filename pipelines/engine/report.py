"""What an engine tells beside a job's events. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..library.read.card import ModelCard

Speak = Callable[[str], Callable[[str], str]]  # a language's code -> what puts a word of ours into it


def in_english(language: str) -> Callable[[str], str]:
    """Leave words as they are."""
    return str


@dataclass(frozen=True)
class Resident:
    """A checkpoint in memory. parked: in host memory, from where it comes back with a copy."""

    name: str
    parked: bool
    size_bytes: int


@dataclass(frozen=True)
class Standing:
    """How an engine stands.

    device_line: where the last checkpoint was put, such as "CPU, 2 threads, float32"; "" before that.
    """

    loaded: tuple[Resident, ...] = ()
    device_line: str = ""


@dataclass(frozen=True)
class Predicts:
    """Trying a model showed what it predicts. kind: "epsilon" or "v_prediction"."""

    card: ModelCard
    kind: str
