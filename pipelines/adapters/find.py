"""The LoRA that a tag names, among those that the library found. Imports no torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from ..library.entry import LibraryEntry
from ..library.entry import lookup as entry_of_kind
from ..library.entry import named as named
from ..library.read.headers import read_header


def lookup(entries: Sequence[LibraryEntry], name: str) -> LibraryEntry:
    """The LoRA of that name or alias. Raises ModelError when there is none, or when it cannot be used."""
    return entry_of_kind(entries, "lora", name)


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
