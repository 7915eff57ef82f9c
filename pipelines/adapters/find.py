"""The LoRA that a tag names, among those that the library found. Imports no torch.

A name from outside is looked up in what was found; it is never joined to a path.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from ..checkpoints.headers import read_header
from ..errors import ModelError
from ..library.entry import LibraryEntry

SHOWN_NAME = 40


def named(entries: Sequence[LibraryEntry], name: str) -> LibraryEntry | None:
    """The LoRA of that name, or else the one whose maker called it so (small and capital letters are one)."""
    wanted = name.casefold()
    for key in (lambda entry: entry.name, lambda entry: entry.facts.get("alias", "")):
        for entry in entries:
            if wanted and key(entry).casefold() == wanted:
                return entry
    return None


def lookup(entries: Sequence[LibraryEntry], name: str) -> LibraryEntry:
    """As `named`; ModelError when there is none or it cannot be used."""
    found = named(entries, name)
    if found is None:
        shown = repr(name) if len(name) <= SHOWN_NAME else f"{name[:SHOWN_NAME]!r}..."
        nearest = get_close_matches(name[:200], [entry.name for entry in entries], n=1, cutoff=0)
        raise ModelError(f"LoRA: {shown} is not here." + (f" The nearest is {nearest[0]!r}." if nearest else ""))
    if found.fault:
        raise ModelError(found.fault)
    return found


def short_hash(entry: LibraryEntry) -> str:
    """12 hex digits as infotext carries them in "Lora hashes": of the tensors, so that other words do not change it."""
    return _digest(entry.path, entry.size_bytes, entry.modified_s)[:12]


@lru_cache(maxsize=256)  # each picture's text asks, and a file may have gigabytes
def _digest(path: Path, size_bytes: int, modified_s: float) -> str:
    header = read_header(path)
    digest = header.metadata.get("sshs_model_hash", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        with path.open("rb") as file:
            file.seek(header.start)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest
