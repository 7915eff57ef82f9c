"""The nodes of a parsed prompt: values, made by grammar.py and read by schedule.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """A piece of text. raw: as it was typed, which differs by the backslash of an escape."""

    text: str
    raw: str


@dataclass(frozen=True)
class Break:
    """The rest begins in a new chunk."""


@dataclass(frozen=True)
class Weighted:
    """children count `weight` times as much. opening, closing: the typed marks, such as "(" and ":1.3)"."""

    children: tuple[Node, ...]
    weight: float
    opening: str
    closing: str


@dataclass(frozen=True)
class Scheduled:
    """`before` until step `when`, `after` from then on. when: "12" is a step, "0.5" a share of the steps."""

    before: tuple[Node, ...]
    after: tuple[Node, ...]
    when: str


@dataclass(frozen=True)
class Alternate:
    """Another option at every step, in turn."""

    options: tuple[tuple[Node, ...], ...]


Node = Text | Break | Weighted | Scheduled | Alternate


@dataclass(frozen=True)
class Part:
    """One of the prompts that AND joins, and how much it counts."""

    children: tuple[Node, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Prompt:
    """A parsed prompt. notices: what was not taken as typed. unbalanced: places of brackets without a partner."""

    parts: tuple[Part, ...]
    notices: tuple[str, ...] = ()
    unbalanced: tuple[int, ...] = ()
