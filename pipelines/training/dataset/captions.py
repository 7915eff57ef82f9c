"""Captions: read beside the pictures, and made into the texts that a run shows the model. Imports no torch."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..request import TrainLora
from .archive import plain

SUFFIXES = (".txt", ".caption")
SHUFFLES = 8  # orders of a caption's tags that a run uses: so few that all of them can be kept embedded
MAX_CAPTION_BYTES = 64 * 1024
TEXT_KEYS = ("text", "caption", "prompt")


@dataclass(frozen=True)
class Caption:
    """text: without line breaks. reasons: what had to be mended, or surprises."""

    text: str
    reasons: tuple[str, ...] = ()


def read_table(folder: Path) -> dict[str, str]:
    """metadata.jsonl of a folder: file name -> caption. Damaged lines are passed over.

    Pictures in folders below are named with /, and once more as `archive.unpack` calls them.
    """
    found: dict[str, str] = {}
    try:
        lines = (folder / "metadata.jsonl").read_bytes().splitlines()
    except OSError:
        return found
    for line in lines:
        try:
            entry = json.loads(line)
            text = next(entry[key] for key in TEXT_KEYS if isinstance(entry.get(key), str))
            name, text = PurePosixPath(entry["file_name"]), " ".join(text.split())
            found[f"{plain(name.with_suffix(''))}{name.suffix.lower()}"] = found[str(name)] = text
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
            continue
    return found


def read(picture: Path, from_table: str | None) -> Caption:
    """The caption of a picture: of the text file of its stem, else what a table says of it."""
    for suffix in SUFFIXES:
        file = picture.with_suffix(suffix)
        if not file.is_file():
            continue
        try:
            data = file.read_bytes()[:MAX_CAPTION_BYTES]
        except OSError:
            return Caption("", ("the caption cannot be read",))
        try:
            text, reasons = data.decode("utf-8-sig"), ()
        except UnicodeDecodeError:
            text, reasons = _decoded(data), ("the caption is not UTF-8; read as Western European text",)
        text = " ".join(text.replace("\0", " ").split())
        return Caption(text, reasons if text else (*reasons, "the caption is empty"))
    return Caption("", ("no caption",)) if from_table is None else Caption(from_table)


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.decode("cp1252", "replace")


def tags_of(text: str) -> list[str]:
    """A caption's comma-separated tags."""
    return [tag.strip() for tag in text.split(",") if tag.strip()]


def histogram(texts: Iterable[str]) -> list[tuple[str, int]]:
    """How many captions have each tag, the most frequent first."""
    found = Counter(tag for text in texts for tag in dict.fromkeys(tags_of(text)))
    return sorted(found.items(), key=lambda one: (-one[1], one[0]))


def replaced(text: str, find: str, put: str) -> str:
    """A caption with words replaced; a tag that nothing is left of goes with its comma."""
    return ", ".join(tags_of(text.replace(find, put))) if find in text else text


def variants(text: str, config: TrainLora, salt: str) -> tuple[str, ...]:
    """Every text that a run may show for a caption, the empty one of caption dropout aside.

    One, or with shuffling up to SHUFFLES orders of its comma-separated tags, fixed by seed and `salt` (the picture).
    """
    tags = tags_of(text)
    if not config.shuffle or len(tags) - config.keep_first < 2:
        return (_dressed(text, config),)
    orders = []
    for number in range(SHUFFLES):
        loose = tags[config.keep_first :]
        random.Random(f"{config.seed} {salt} {number}").shuffle(loose)
        orders.append(_dressed(", ".join([*tags[: config.keep_first], *loose]), config))
    return tuple(dict.fromkeys(orders))


def _dressed(text: str, config: TrainLora) -> str:
    body = f"{config.prefix}{text}{config.suffix}".strip()
    return ", ".join(part for part in (config.trigger.strip(), body) if part)
