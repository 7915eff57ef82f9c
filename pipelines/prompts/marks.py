"""Places in a prompt that will not do what they look like: said while somebody types, before anything runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .choices import NAME, name_of
from .comments import blanked, unmeant
from .grammar import TAGS, parse
from .lora_tags import TAG, extract

MAX_MARKS = 20
SHOWN = 40  # characters of a name that are repeated


@dataclass(frozen=True)
class Mark:
    """start, end: the place, in characters. why: one plain sentence."""

    start: int
    end: int
    why: str


def marks(text: str, *, is_lora: Callable[[str], bool], is_wildcard: Callable[[str], bool],
          is_word: Callable[[str], bool] = lambda word: False) -> tuple[Mark, ...]:
    """Find brackets without a partner and names that nothing here answers to. At most MAX_MARKS, in order.

    is_word: whether a text in angle brackets is an embedding's word.
    """
    found = [Mark(at, at + 1, "From here to the end of the line is a comment. A # itself is written \\#.")
             for at in unmeant(text)]
    text = blanked(text)
    found += [Mark(at, at + 1, "This bracket has no partner.") for at in _alone(text)]
    for tag in TAGS.finditer(text):
        why = _tag(tag[0], is_lora)
        if why and not is_word(tag[0]):
            found.append(Mark(*tag.span(), why))
    for name in re.finditer(NAME, _without_tags(text)):
        if not is_wildcard(name_of(name[0])):
            found.append(Mark(*name.span(), f"There is no wildcard file for {name[0][:SHOWN]}."))
    return tuple(sorted(found, key=lambda mark: mark.start)[:MAX_MARKS])


def _alone(text: str) -> tuple[int, ...]:
    return parse(_without_tags(text)).unbalanced


def _without_tags(text: str) -> str:
    # Brackets and underscores inside tags are parts of names. The text keeps its length, so places stay what they are.
    return TAGS.sub(lambda tag: "x" * len(tag[0]), text)


def _tag(text: str, is_lora: Callable[[str], bool]) -> str:
    lora = TAG.fullmatch(text)
    if not lora:
        return f"Nothing here knows the tag {text[:SHOWN]}."
    name = lora[1].partition(":")[0].strip()
    if not is_lora(name):
        return f"There is no LoRA called {name[:SHOWN]}."
    return " ".join(note for use in extract(text)[1] for note in use.notes)
