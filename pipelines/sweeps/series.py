"""Many pictures as one job: prompts from a file, and pictures from an upload. Imports no torch.

As a grid it is resumable: submitted again, it makes only what does not lie on the disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import metadata
from ..errors import RequestError
from ..requests import MAX_SEED, TASKS, Request, changed

MAX_TEXT = 400_000  # characters of a file of prompts
MAX_PICTURES = 400
TITLES = {name: info.title for cls in TASKS.values() for name, info in cls.model_fields.items()}

_SETTINGS = re.compile(r"^[ \t]*Steps: \d+,", re.MULTILINE)  # the line of settings in a picture's text
_NEGATIVE = re.compile(r"^[ \t]*Negative prompt:", re.MULTILINE)
_BLANK = re.compile(r"\n[ \t]*\n")


@dataclass(frozen=True)
class Series:
    """Single pictures to be made one after the other. base: the request that they vary. requests: concrete ones."""

    base: Request
    requests: tuple[Request, ...]

    def __len__(self) -> int:
        return len(self.requests)

    def cells(self) -> Iterator[tuple[tuple[int, int, int], Request]]:
        """Every picture with its place, as a grid has them."""
        return (((number, 0, 0), request) for number, request in enumerate(self.requests))


def prompts_in(text: str, cls: type[Request]) -> list[dict[str, object]]:
    """Read a file of prompts: one a line, or, where blank lines part them, one a block.

    A block may have a part `Negative prompt:`, and a line of settings, as a picture's own text has: it begins with
    `Steps: <number>,`. Lines that begin with # are left out. Returns values of a request's fields; what a prompt does
    not say is not in them.
    """
    return [values for values, _ in blocks_in(text, cls)]


def unused_in(text: str, cls: type[Request]) -> tuple[str, ...]:
    """Say what the settings in a file of prompts hold that its pictures do not take."""
    return tuple(dict.fromkeys(line for _, unused in blocks_in(text, cls) for line in unused))


def blocks_in(text: str, cls: type[Request]) -> list[tuple[dict[str, object], list[str]]]:
    """The prompts of a file as `prompts_in` reads them, each with sentences about what is not used."""
    if len(text) > MAX_TEXT:
        raise RequestError(f"Prompts: the text has {len(text):,} characters; the limit is {MAX_TEXT:,}.", "prompts")
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").split("\n") if not line.lstrip().startswith("#")]
    text = "\n".join(lines)
    if not any(mark.search(text.strip()) for mark in (_BLANK, _NEGATIVE, _SETTINGS)):
        return [({"prompt": line.strip()}, []) for line in lines if line.strip()]
    return [_read(block.strip(), cls) for block in re.split(r"\n\s*\n", text) if block.strip()]


def _read(block: str, cls: type[Request]) -> tuple[dict[str, object], list[str]]:
    if not _SETTINGS.search(block):
        negative = _NEGATIVE.search(block)
        texts = {"prompt": block[:negative.start()] if negative else block,
                 "negative_prompt": block[negative.end():] if negative else ""}
        return {name: value.strip() for name, value in texts.items() if value.strip()}, []
    parsed = metadata.parse(block)
    kept = {name: value for name, value in parsed.fields.items() if value != ""}
    left_out = {TITLES[name]: str(kept.pop(name)) for name in tuple(kept)
                if name not in cls.model_fields or name == "model"}
    unused = [f"Not used: {name} {value[:80]}" for name, value in {**left_out, **parsed.unknown}.items()]
    return kept, [*parsed.notes, *unused]


def vary(base: Request, prompts: Sequence[dict[str, Any]], pictures: Sequence[str]) -> Iterator[Request]:
    """Every picture with every prompt, one request a picture. Raises RequestError for more than MAX_PICTURES.

    base: with a seed. Prompts, and pictures of one prompt, count the seed up; the pictures of an upload share it, so
    that they change in the same way. Each keeps its own shape.
    """
    count = base.batch_size * base.batch_count
    if (total := max(1, len(prompts)) * max(1, len(pictures)) * count) > MAX_PICTURES:
        raise RequestError(f"Many at once: {total:,} pictures are too many. At most {MAX_PICTURES}.", "prompts")
    own_shape = {"width": None, "height": None} if pictures else {}
    whole = {"prompt_lines": False} if prompts else {}  # a block of several lines is one prompt
    for picture in pictures or [None]:
        given = {} if picture is None else {"image": picture, **own_shape}
        for place, said in enumerate(prompts or [{}]):
            seed = said.get("seed", -1)
            seed = base.seed + place * count if seed == -1 else seed
            for number in range(count):
                single = {"seed": (seed + number) % (MAX_SEED + 1), "batch_size": 1, "batch_count": 1}
                yield changed(base, **{**given, **whole, **said, **single})
