"""Prompts that vary: `__name__` takes a line of a text file, `{a|b|2::c}` one of its options, `${x}` what x was set to.

Files lie in the data folder under wildcards, `__animals/cats__` is animals/cats.txt, one option a line, `#` begins a
comment, and `2::x` makes an option twice as likely. Options may hold further names and braces; choices.py reads them.
What is chosen depends on the seed alone, so the expanded prompt can be had again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from ..errors import RequestError
from .choices import parse, weighed
from .comments import without_comments
from .draws import Options, combine, draw

MAX_NAME_BYTES = 240  # of a file's name without its ending
MAX_FILE_BYTES = 4_000_000
MAX_COMBINATIONS = 10_000


class Wildcards:
    """The files in a folder. Cheap to make: a file is read when it is first named."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._read: dict[str, Options] = {}

    def names(self) -> tuple[str, ...]:
        """Every name that can be written between double underscores."""
        files = sorted(self._folder.rglob("*.txt")) if self._folder.is_dir() else ()
        return tuple(file.relative_to(self._folder).with_suffix("").as_posix() for file in files)

    def has(self, name: str) -> bool:
        """Whether there is a file for a name."""
        return bool(self._files(name))

    def expand(self, text: str, seed: int) -> str:
        """Choose by the seed. A name without a file stays as it is; text without syntax comes back unchanged.

        Raises RequestError when a file names itself, or the result is longer than a prompt may be.
        """
        return self.expand_all([text], seed)[0]

    def expand_all(self, texts: Sequence[str], seed: int) -> tuple[str, ...]:
        """Choose for several texts, such as a prompt and its negative prompt, which share their variables."""
        return draw(texts, self._options, random.Random(seed))

    def combinations(self, text: str, limit: int = MAX_COMBINATIONS) -> tuple[str, ...]:
        """Every prompt that a text can become, the last choice changing fastest; at most `limit` of them.

        Raises RequestError as `expand` does.
        """
        return tuple(text for text, in self.combinations_of([text], limit))

    def combinations_of(self, texts: Sequence[str], limit: int = MAX_COMBINATIONS) -> tuple[tuple[str, ...], ...]:
        """Every combination of what several texts can become together."""
        return combine(texts, self._options, min(limit, MAX_COMBINATIONS))

    def _options(self, name: str) -> Options:
        if any(len(part.encode()) > MAX_NAME_BYTES for part in name.split("/")):
            raise RequestError(f"Prompt: the wildcard __{name[:20]}...__ has a name of {len(name)} characters. "
                               f"A file's name has at most {MAX_NAME_BYTES} bytes.", "prompt")
        if name not in self._read:
            self._read[name] = tuple(option for file in self._files(name) for option in _read(file))
        return self._read[name]

    def _files(self, name: str) -> list[Path]:
        """The files of a name, which may hold stars; never one outside the folder."""
        parts = name.split("/")
        if not self._folder.is_dir() or any(part.strip(". ") == "" for part in parts):
            return []
        if sum("**" in part for part in parts) > 1:  # each looks through every folder that the one before it found
            return []
        if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):  # the system would refuse to look
            return []
        found = sorted(self._folder.glob(f"{name}.txt")) if "*" in name else [self._folder / f"{name}.txt"]
        home = self._folder.resolve()
        return [file for file in found if file.is_file() and file.resolve().is_relative_to(home)]


def _read(file: Path) -> Options:
    with file.open("rb") as opened:
        raw = opened.read(MAX_FILE_BYTES)
    lines = (line.strip() for line in without_comments(raw.decode("utf-8-sig", "replace")).splitlines())
    return tuple(weighed(parse(line)) for line in lines if line)
