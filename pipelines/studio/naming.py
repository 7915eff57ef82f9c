"""Which files of this machine a text of another tool means: by name, by name without folder and ending, or by hash.

Imports no torch. Hashes that are not known are computed at once for small files only, and else in the background.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ..families import FAMILIES
from ..library.entry import LibraryEntry, named
from ..library.hashes import OLD_DIGITS, Hashes, file_stamp, old_hash
from ..metadata import Parsed
from ..metadata.texts import stem
from ..prompts.comments import without_comments
from ..prompts.lora_tags import TAG
from ..prompts.texts import prompt_fields
from ..requests import Txt2Img

MAX_HASHED_BYTES = 512 * 2**20  # of all files together that are read while a person waits
SHOWN = 80  # characters of a name that a sentence repeats
_DIGITS = (8, 64)  # of a hash
Known = TypeVar("Known", str, LibraryEntry)


@dataclass(frozen=True)
class Shelf:
    """What there is. names: of the checkpoints that can be chosen. want_hashes: asks for them in the background.
    hashes: what is known of them, or is read now."""

    names: tuple[str, ...]
    checkpoints: Callable[[], tuple[LibraryEntry, ...]]
    loras: Callable[[], tuple[LibraryEntry, ...]]
    embeddings: Callable[[], tuple[LibraryEntry, ...]]
    want_hashes: Callable[[Iterable[LibraryEntry]], None]
    hashes: Hashes


def settle(parsed: Parsed, shelf: Shelf) -> Parsed:
    """Put the names of this machine's checkpoint and LoRAs in place of those that a text says; what is not here is
    told in a note, and keeps its name."""
    notes: list[str] = []
    told = _told_hashes(parsed.unknown)
    fields = dict(parsed.fields)
    wanted = fields.get("model") or ""
    digits = parsed.unknown.get("Model hash") or told.get("model", "")
    if wanted or digits:
        found = _checkpoint(wanted, digits, shelf, notes)
        fields |= {"model": found} if found else {}
    fields |= _loras(fields, told, shelf, notes)
    if words := _names(parsed.unknown.get("TI hashes", "")) or _names(parsed.unknown.get("TI", "")):
        known = shelf.embeddings()
        notes += [f"Embedding: {name[:SHOWN]} is not known here." for name in words if not named(known, name)]
    return replace(parsed, fields=fields, notes=(*parsed.notes, *notes))


def alike(entries: Iterable[Known], name: str) -> Known | None:
    """The entry of that name, or else of that name without folder and ending; small and capital letters are one.

    entries: of the library, or bare names.
    """
    known = tuple(entries)
    for wanted in (name.casefold(), stem(name.strip()).casefold()):
        if found := next((one for one in known if wanted and _name_of(one).casefold() == wanted), None):
            return found
    return None


def _name_of(entry: str | LibraryEntry) -> str:
    return entry if isinstance(entry, str) else entry.name


def _checkpoint(wanted: str, digits: str, shelf: Shelf, notes: list[str]) -> str | None:
    if name := alike(shelf.names, wanted):
        return name
    entry = _by_hash([one for one in shelf.checkpoints() if one.name in shelf.names], digits, "Model", shelf, notes)
    if entry and wanted:
        notes.append(f"Model: {wanted[:SHOWN]} is {entry.name[:SHOWN]} here, by its hash.")
    elif not entry and wanted:
        notes.append(f"Model: {wanted[:SHOWN]} is not known here.")
    return entry.name if entry else None


def _loras(fields: Mapping[str, Any], told: Mapping[str, str], shelf: Shelf, notes: list[str]) -> dict[str, str]:
    """The prompts, with the names that the LoRAs of their tags have here."""
    prompts = {name: fields[name] for name in prompt_fields(Txt2Img) if isinstance(fields.get(name), str)}
    asked = dict.fromkeys(name for text in prompts.values() for tag in TAG.finditer(without_comments(text))
                          if (name := tag[1].partition(":")[0].strip()))
    if not asked:
        return {}
    entries = shelf.loras()
    names: dict[str, str] = {}
    for name in asked:
        entry = named(entries, name) or alike(entries, name)
        if entry is None:
            entry = _by_hash(entries, told.get(name.casefold(), ""), "LoRA", shelf, notes)
            notes.append(f"LoRA: {name[:SHOWN]} is {entry.name[:SHOWN]} here, by its hash." if entry else
                         f"LoRA: {name[:SHOWN]} is not known here.")
        if entry and not named([entry], name):
            names[name] = entry.name
    return {key: TAG.sub(lambda tag: _renamed(tag, names), text) for key, text in prompts.items()} if names else {}


def _renamed(tag: re.Match[str], names: Mapping[str, str]) -> str:
    name, colon, rest = tag[1].partition(":")
    return f"<lora:{names[name.strip()]}{colon}{rest}>" if name.strip() in names else tag[0]


def _told_hashes(unknown: Mapping[str, str]) -> dict[str, str]:
    """The hashes in "Lora hashes" (`name: digits, ...`) and in "Hashes" (`{"lora:name": digits}`), by small name."""
    pairs = {key: value for part in re.split(r"[,\n]", unknown.get("Lora hashes", ""))
             for key, _, value in [part.rpartition(":")]}
    try:
        table = json.loads(unknown.get("Hashes", ""))
    except (ValueError, RecursionError):
        table = {}
    pairs |= table if isinstance(table, dict) else {}
    return {re.sub(r"^lora:", "", str(key).strip().casefold()): value.strip() for key, value in pairs.items()
            if isinstance(value, str)}


def _names(text: str) -> list[str]:
    """The names in `name: digits, name: digits`, or in `name, name`."""
    return [name.strip() for part in text.split(",")[:50] if (name := part.rpartition(":")[0] or part).strip()]


def _by_hash(entries: Iterable[LibraryEntry], digits: str, kind: str, shelf: Shelf,
             notes: list[str]) -> LibraryEntry | None:
    """The file with that hash, of the whole file or of its tensors; a note where some are not known yet."""
    digits = digits.strip().lower().removeprefix("0x")
    if not re.fullmatch(rf"[0-9a-f]{{{_DIGITS[0]},{_DIGITS[1]}}}", digits):
        return None
    known = [entry for entry in entries if not entry.fault]
    for entry in known:
        if _same(digits, entry.auto_v2) or _same(digits, entry.auto_v3):
            return entry
    room, later = MAX_HASHED_BYTES, []
    for entry in sorted((one for one in known if not one.auto_v2), key=lambda one: one.size_bytes):
        if entry.size_bytes > room:
            later.append(entry)
            continue
        room -= entry.size_bytes
        if any(_same(digits, found) for found in _computed(entry, shelf.hashes)):
            return entry
    for entry in known if len(digits) == OLD_DIGITS else ():
        if old_hash(entry.path) == digits:
            return entry
    if later:
        shelf.want_hashes(later)
        notes.append(f"{kind}: the hashes of {len(later)} files are still being computed; read the text again later.")
    return None


def _same(digits: str, known: str) -> bool:
    length = min(len(digits), len(known))
    return length >= _DIGITS[0] and digits[:length] == known[:length]


def _computed(entry: LibraryEntry, hashes: Hashes) -> tuple[str, ...]:
    core = FAMILIES[entry.family].core if entry.family in FAMILIES else "unet"
    stamp = "" if entry.path.is_dir() else file_stamp(entry.size_bytes, entry.modified_s)
    try:
        found = hashes.of(entry.path, core, stamp=stamp)
    except Exception:  # a file that went away, or is damaged, has no hash
        return ()
    return found.whole, found.body
