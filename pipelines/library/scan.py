"""Places and what is remembered -> everything that lies in them. Only new and changed files are opened."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .folders import Place
from .recognise import Finding, may_be_checkpoint, recognise
from .store import Store
from .walk import Item, walk

BATCH = 200
IN_TAGS = "<>:"  # what ends or parts a LoRA's tag in a prompt
# What many files are called: these are named after their folder.
NAMELESS = ("diffusion_pytorch_model", "pytorch_lora_weights", "adapter_model", "learned_embeds", "model",
            "pytorch_model", "lora", "embeddings")


@dataclass(frozen=True)
class Found:
    """An item, what it is, and its name: unique among its kind, small and capital letters being one."""

    item: Item
    finding: Finding
    name: str


def scan(places: Iterable[Place], store: Store, *, taken: Iterable[str] = (), only_checkpoints: bool = False,
         report: Callable[[int, int, list[Found]], bool] | None = None) -> list[Found]:
    """Find what lies in `places`, in their order.

    taken: names of checkpoints that are given away. only_checkpoints: leave out new files that are whole and no
    checkpoint; they cost a tenth of the time then. report: called now and then with how many are done, how many there
    are, and what was found; False ends the scan.
    """
    unique: dict[Path, Item] = {}
    for place in places:
        for item in walk(place):
            unique.setdefault(item.path, item)
    items = list(unique.values())
    known = _remembered(store)
    names: dict[str, set[str]] = {"checkpoint": {name.casefold() for name in taken}}
    found: list[Found] = []
    new: list[tuple[str, str, Finding]] = []
    for i, item in enumerate(items):
        stamp, finding = known.get(str(item.path), ("", None))
        if stamp != item.stamp or finding is None:
            if only_checkpoints and not may_be_checkpoint(item):
                continue
            finding = recognise(item)
            new.append((str(item.path), item.stamp, finding))
            if len(new) >= BATCH:
                _keep(store, new)
        if finding.kind and not (finding.fault and item.place.hub):
            name = _name(item, names.setdefault(finding.kind, set()), IN_TAGS if finding.kind == "lora" else "")
            found.append(Found(item, finding, name))
        if report and i % BATCH == BATCH - 1 and not report(i + 1, len(items), found):
            break
    else:
        if not only_checkpoints:
            _forget(store, known.keys() - {str(item.path) for item in items})
    _keep(store, new)
    return found


def _name(item: Item, taken: set[str], forbidden: str) -> str:
    """The file's or folder's own name; with the folders above it when another one has that name already."""
    path, place = item.path, item.place
    nameless = not item.is_folder and path.stem in NAMELESS
    if place.name and (path == place.folder or (nameless and path.parent == place.folder)):
        short = place.name
    elif nameless and path.parent != place.root:
        short = path.parent.name
    else:
        short = path.name if item.is_folder else path.stem
    inside = path.relative_to(place.root).as_posix()
    long = f"{place.name} {path.stem}" if place.hub else inside
    unique = f"{long} {hashlib.sha256(str(path).encode()).hexdigest()[:6]}"
    names = [plain(name, forbidden) for name in (short, long, unique)]
    name = next((name for name in names if name.casefold() not in taken), names[-1])
    taken.add(name.casefold())
    return name


def plain(text: str, forbidden: str = "") -> str:
    """Drop control characters, which would break lines of infotext, and what else is forbidden."""
    return re.sub(rf"[\x00-\x1f\x7f{forbidden}]", " ", text).strip() or "model"


# A store that cannot be read or written (a full disk, a read-only folder) costs time, and nothing else.

def _remembered(store: Store) -> dict[str, tuple[str, Finding]]:
    try:
        return store.findings()
    except (sqlite3.Error, OSError, ValueError, TypeError, KeyError):
        return {}


def _keep(store: Store, new: list[tuple[str, str, Finding]]) -> None:
    with suppress(sqlite3.Error, OSError):
        store.keep(new)
    new.clear()


def _forget(store: Store, paths: Iterable[str]) -> None:
    with suppress(sqlite3.Error, OSError):
        store.forget(paths)
