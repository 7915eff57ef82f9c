"""The models that can be chosen: finds checkpoints and answers for their names. Imports no torch.

A name from outside is looked up in what was found; it is never joined to a path.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

from ..errors import ModelError, quoted
from ..families import FAMILIES
from ..families.clip import write_vocabulary
from ..settings import Settings
from .entry import LibraryEntry, entry_of
from .folders import places
from .hashes import Hashes
from .read.card import ModelCard, read_file, read_folder, refuse_pickle
from .read.hub import HUB_ID, hub_card
from .scan import plain, scan
from .store import FILE_NAME, Store

__all__ = ["ModelCard", "find", "lookup", "short_hash", "tokenizer_folder"]

EMBEDDED = Path(__file__).parents[1] / "demo" / "model"
EMBEDDED_NAME = "atelier-demo"


def find(settings: Settings, embedded: Path = EMBEDDED, entries: Iterable[LibraryEntry] | None = None,
         asked: ModelCard | None = None) -> tuple[tuple[ModelCard, ...], tuple[ModelError, ...]]:
    """Find the models: the one asked for, the embedded one, and what lies in the model folders.

    entries: what the library found; without it the folders are looked through. asked: the model asked for, as an
    earlier look found it. Returns (cards, faults): the default card first; a fault for each checkpoint that cannot be
    used. Raises ModelError when the model asked for cannot be had, or when there is none at all.
    """
    cards: list[ModelCard] = []
    faults: list[ModelError] = []
    _collect(cards, faults, lambda: read_folder(embedded, EMBEDDED_NAME))
    for folder in settings.model_dir:
        if not folder.is_dir():
            faults.append(ModelError(f"Model folder: there is no folder {quoted(folder.name, 80)}."))
    if entries is None:
        entries = (entry_of(found, {}) for found in scan(places(settings), Store(settings.data_dir / FILE_NAME),
                                                         taken=[card.name for card in cards], only_checkpoints=True))
    for entry in entries:
        if entry.kind == "checkpoint" and entry.fault:
            faults.append(ModelError(entry.fault))
        elif entry.kind == "checkpoint" and entry.path != embedded:
            cards.append(entry.card)
    if settings.model:
        again = next((card for card in cards if asked and card.path == asked.path), asked)
        first = again or _asked(settings.model, cards, settings.offline)
        cards = [first, *(card for card in cards if card.name != first.name)]
    if not cards:
        raise faults[0] if faults else ModelError("There is no model. Put one into the models folder.")
    return tuple(cards), tuple(faults)


def lookup(cards: tuple[ModelCard, ...], name: str) -> ModelCard:
    """The card of that name or title (small and capital letters are one), or ModelError naming the nearest."""
    for key in ("name", "title"):
        for card in cards:
            if getattr(card, key).casefold() == name.casefold():
                return card
    known = [card.name for card in cards]
    nearest = get_close_matches(name[:200], known, n=1, cutoff=0)
    shown = quoted(name)
    raise ModelError(f"Model: {shown} is not here." + (f" The nearest is {nearest[0]!r}." if nearest else ""))


def short_hash(card: ModelCard, hashes: Hashes) -> str:
    """First 10 hex digits of the SHA-256 of the file (of a folder: of its U-Net), as infotext carries them.

    "" for a hub model not here yet.
    """
    return hashes.of(card.path, FAMILIES[card.family].core).auto_v2 if card.path else ""


def tokenizer_folder(card: ModelCard, data_dir: Path) -> Path:
    """A folder with vocab.json and merges.txt for counting tokens; CLIP's own where the model brings none."""
    own = card.path / "tokenizer" if card.path and card.kind != "file" else None
    if own and (own / "vocab.json").is_file() and (own / "merges.txt").is_file():
        return own
    shared = data_dir / "tokenizers" / "clip"
    if not (shared / "vocab.json").is_file():
        write_vocabulary(shared)
    return shared


def _collect(cards: list[ModelCard], faults: list[ModelError], read: Callable[[], ModelCard]) -> None:
    try:
        cards.append(read())
    except ModelError as fault:
        faults.append(fault)
    except OSError as fault:  # a file that vanished or may not be read
        faults.append(ModelError(f"A model cannot be read: {fault.strerror or 'the disk does not answer'}."))


def _read(path: Path, name: str) -> ModelCard:
    return read_folder(path, name) if path.is_dir() else read_file(path, name)


def _asked(model: str, cards: list[ModelCard], offline: bool) -> ModelCard:
    """The card for --model: a path, the name of a model that was found, or a hub id."""
    path = Path(model).expanduser()
    if path.exists():
        path = path.resolve()
        same = next((card for card in cards if card.path and card.path.resolve() == path), None)
        if same:
            return same
        if path.is_file():
            refuse_pickle(path)
        name = plain(path.stem if path.is_file() else path.name)
        taken = any(card.name == name for card in cards)
        return _read(path, f"{name} (asked for)" if taken else name)
    try:
        return lookup(tuple(cards), model)
    except ModelError:
        if re.fullmatch(HUB_ID, model):
            return hub_card(model, offline)
        raise
