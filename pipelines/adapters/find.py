"""The LoRA that a tag names, among those that the library found. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from ..library.entry import LibraryEntry
from ..library.entry import lookup as entry_of_kind
from ..library.entry import named as named
from ..library.hashes import Hashes, file_stamp


def lookup(entries: Sequence[LibraryEntry], name: str) -> LibraryEntry:
    """The LoRA of that name or alias. Raises ModelError when there is none, or when it cannot be used."""
    return entry_of_kind(entries, "lora", name)


def short_hash(entry: LibraryEntry, hashes: Hashes) -> str:
    """12 hex digits as infotext carries them in "Lora hashes": of the tensors, so that other words do not change it."""
    if entry.auto_v3:
        return entry.auto_v3
    return hashes.of(entry.path, stamp=file_stamp(entry.size_bytes, entry.modified_s)).auto_v3
