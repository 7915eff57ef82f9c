"""What lies beside a model file, or in its header, to tell people how to use it. All of it is text of strangers."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .read.card import read_json

MAX_NOTE = 2_000  # characters
MAX_WORDS = 50
MAX_WORD = 200
MAX_WEIGHT = 10.0


@dataclass(frozen=True)
class Said:
    """title, notes: for reading. trigger_words: to be put into the prompt. negative_words: into the negative one.
    preferred_weight: None when nothing is said."""

    title: str = ""
    notes: str = ""
    trigger_words: tuple[str, ...] = ()
    negative_words: str = ""
    preferred_weight: float | None = None


def read(notes: tuple[Path, ...], metadata: Mapping[str, str]) -> Said:
    """Join what AUTOMATIC1111's .json, a .civitai.info and the file's own header say; what comes first wins.

    metadata: the header's, with modelspec's and kohya's keys. What is damaged or of a wrong kind counts as not said.
    """
    said = [_civitai(table) if path.name.endswith(".civitai.info") else _automatic1111(table)
            for path in notes if (table := _table(path)) is not None]
    said.append(Said(_text(metadata.get("modelspec.title"), 100), _text(metadata.get("modelspec.description")),
                     _words([metadata.get("modelspec.trigger_phrase")])))
    return Said(*(next((value for value in column if value not in ("", (), None)), column[-1])
                  for column in zip(*(vars(one).values() for one in said), strict=True)))


def _automatic1111(table: Mapping[str, Any]) -> Said:
    weight = table.get("preferred weight")
    good = type(weight) in (int, float) and 0 < abs(weight) <= MAX_WEIGHT  # 0 is how it writes "not set"
    notes = [_text(table.get(key)) for key in ("description", "notes")]
    return Said(notes="\n".join(text for text in notes if text), trigger_words=_words([table.get("activation text")]),
                negative_words=_text(table.get("negative text")), preferred_weight=float(weight) if good else None)


def _civitai(table: Mapping[str, object]) -> Said:
    model = table.get("model")
    title = _text(model.get("name"), 100) if isinstance(model, dict) else ""
    words = table.get("trainedWords")
    return Said(title, _plain(table.get("description")), _words(words if isinstance(words, list) else ()))


def _table(path: Path) -> dict[str, object] | None:
    try:
        return read_json(path)
    except ModelError:
        return None


def _text(value: object, most: int = MAX_NOTE) -> str:
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", " ", value).strip()[:most] if isinstance(value, str) else ""


def _plain(value: object) -> str:
    """The words of a piece of HTML."""
    text = re.sub(r"<[^<>]*>", " ", value[:100_000]) if isinstance(value, str) else ""
    return re.sub(r"[ \t]+", " ", _text(html.unescape(text)))


def _words(values: Iterable[object]) -> tuple[str, ...]:
    found = (_text(value, MAX_WORD).strip(" ,") for value in list(values)[:MAX_WORDS])
    return tuple(dict.fromkeys(word for word in found if word))
