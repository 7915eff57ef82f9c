"""The LoRA files that can be chosen: found by what they contain, answered for by name. Imports no torch.

A name from outside is looked up in what was found; it is never joined to a path.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import chain, count
from pathlib import Path
from typing import Any

from ..checkpoints import PICKLES, read_json, refuse_pickle
from ..errors import ModelError
from ..headers import Header, read_header, small_tensor
from ..settings import Settings
from . import keys

MAX_DEPTH = 6
MAX_TEXT = 2000  # characters of what a file says of itself
SHOWN_NAME = 40
PREVIEWS = (".preview.png", ".png", ".preview.jpg", ".jpg", ".preview.jpeg", ".jpeg", ".preview.webp", ".webp")
# Folders that other programs keep nothing but LoRA files in: what is no LoRA there is worth a word.
OWN_FOLDERS = ("lora", "loras", "lycoris")


@dataclass(frozen=True)
class AdapterCard:
    """What is known of a LoRA file before it is read.

    name: unique, what tags carry. alias: the name its maker gave it (ss_output_name), "" without. family: key of
    FAMILIES or words, "" unknown. rank: the largest; 0 unknown. alpha: as written, 0 unknown. trigger_words, notes and
    preferred_weight: from the files beside it. faults: why it cannot be used; empty when it can.
    """

    name: str
    alias: str
    path: Path
    family: str = ""
    rank: int = 0
    alpha: float = 0.0
    size_bytes: int = 0
    trigger_words: str = ""
    preferred_weight: float = 1.0
    preview: Path | None = None
    notes: str = ""
    faults: tuple[str, ...] = ()
    changed_ns: int = 0


def find(settings: Settings, before: tuple[AdapterCard, ...] = ()) -> tuple[AdapterCard, ...]:
    """Find the LoRA files in the data folder's loras and training runs and below the model folders, by name.

    before: cards of an earlier look; files with the same size and time are not read again.
    """
    own = settings.data_dir / "loras"
    known = {card.path: card for card in before}
    cards: dict[str, AdapterCard] = {}  # by name, small and capital letters being one
    seen: set[Path] = set()
    for root in (own, settings.data_dir / "runs", *settings.model_dir):
        for path, beside in _files(root):
            real = path.resolve() if path.is_symlink() else path
            if real in seen:
                continue
            seen.add(real)
            above = path.relative_to(root.resolve()).parts[:-1]
            expected = root == own or any(part.lower() in OWN_FOLDERS for part in (root.name, *above))
            card = _card(path, beside, expected, known.get(path))
            if card is not None:
                card = _named(card, cards, above)
                cards[card.name.casefold()] = card
    return tuple(cards[name] for name in sorted(cards))


def lookup(cards: tuple[AdapterCard, ...], name: str) -> AdapterCard:
    """The card of that name, or else of that alias; ModelError when there is none or it cannot be used."""
    for key in ("name", "alias"):
        for card in cards:
            if name and getattr(card, key).casefold() == name.casefold():
                if card.faults:
                    raise ModelError(card.faults[0])
                return card
    shown = repr(name) if len(name) <= SHOWN_NAME else f"{name[:SHOWN_NAME]!r}..."
    nearest = get_close_matches(name[:200], [card.name for card in cards], n=1, cutoff=0)
    raise ModelError(f"LoRA: {shown} is not here." + (f" The nearest is {nearest[0]!r}." if nearest else ""))


def short_hash(card: AdapterCard) -> str:
    """12 hex digits as infotext carries them in "Lora hashes": of the tensors, so that other words do not change it."""
    header = read_header(card.path)
    digest = header.metadata.get("sshs_model_hash", "")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        with card.path.open("rb") as file:
            file.seek(header.start)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest[:12]


def _files(root: Path) -> Iterator[tuple[Path, frozenset[str]]]:
    """Weight files below `root`, each with the names of all files beside it.

    Hidden ones, checkpoint folders and links that lead out are left out.
    """
    base = root.resolve()
    for place, folders, files in os.walk(base):
        here = Path(place)
        deep = len(here.relative_to(base).parts) >= MAX_DEPTH
        folders[:] = [] if deep or "model_index.json" in files else sorted(
            name for name in folders if not name.startswith("."))
        if "model_index.json" in files:
            continue
        beside = frozenset(files)
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith((".safetensors", *PICKLES)):
                path = here / name
                if not path.is_symlink() or path.resolve().is_relative_to(base):
                    yield path, beside


def _card(path: Path, beside: frozenset[str], expected: bool, known: AdapterCard | None) -> AdapterCard | None:
    """The card of a file; None for what is no LoRA and lies where others lie too."""
    try:
        facts = path.stat()
        seen = {"size_bytes": facts.st_size, "changed_ns": facts.st_mtime_ns}
        if known and all(getattr(known, key) == value for key, value in seen.items()):
            return replace(known, name=_plain(path.stem), **_beside(path, beside))
        refuse_pickle(path)
        header = read_header(path)
        if not keys.is_adapter(header.shapes):
            raise ModelError(f"{path.name[:80]} cannot be used: it holds no LoRA.")
        return replace(AdapterCard(_plain(path.stem), path=path, **seen, **_said(header)), **_beside(path, beside))
    except (ModelError, OSError) as fault:
        if not expected:
            return None
        text = str(fault) if isinstance(fault, ModelError) else f"{path.name[:80]} cannot be read."
        return AdapterCard(_plain(path.stem), "", path, faults=(text,))


def _said(header: Header) -> dict[str, Any]:
    """What the header tells."""
    metadata = header.metadata
    return {"alias": _plain(metadata.get("ss_output_name", ""))[:200], "family": keys.family_of(header),
            "rank": max(keys.ranks(header), default=0), "alpha": _alpha(header),
            "trigger_words": metadata.get("modelspec.trigger_phrase", "")[:MAX_TEXT],
            "notes": metadata.get("modelspec.description", "")[:MAX_TEXT]}


def _alpha(header: Header) -> float:
    """Of one layer: the others of a file seldom differ."""
    key = next((key for key in header.shapes if key.endswith(".alpha")), None)
    if key is None:
        return 0.0
    try:
        value = small_tensor(header, key)
    except ModelError:  # an unusual number format; reading the file will say more
        return 0.0
    return float(value.flat[0]) if value.size == 1 else 0.0


def _beside(path: Path, beside: frozenset[str]) -> dict[str, Any]:
    """What the files beside a LoRA tell: AUTOMATIC1111's NAME.json, Civitai's NAME.civitai.info, a picture."""
    picture = next((path.stem + suffix for suffix in PREVIEWS if path.stem + suffix in beside), None)
    found: dict[str, Any] = {"preview": path.with_name(picture) if picture else None}
    own, civitai = (_json(path.with_name(path.stem + suffix)) if path.stem + suffix in beside else {}
                    for suffix in (".json", ".civitai.info"))
    trained = civitai.get("trainedWords")
    if isinstance(trained, list):
        found["trigger_words"] = ", ".join(word for word in trained[:50] if isinstance(word, str))[:MAX_TEXT]
    for key, field in (("activation text", "trigger_words"), ("notes", "notes")):
        if isinstance(own.get(key), str) and own[key]:
            found[field] = own[key][:MAX_TEXT]
    weight = own.get("preferred weight")
    if isinstance(weight, (int, float)) and not isinstance(weight, bool) and 0 < abs(weight) <= 10:
        found["preferred_weight"] = float(weight)
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except ModelError:  # notes that cannot be read are no reason to leave a LoRA out
        return {}


def _named(card: AdapterCard, cards: dict[str, AdapterCard], above: tuple[str, ...]) -> AdapterCard:
    """With the folders above it when another file has that name already."""
    long = _plain("/".join((*above, card.name)))
    candidates = chain((card.name, long), (f"{long} ({n})" for n in count(2)))
    return replace(card, name=next(name for name in candidates if name.casefold() not in cards))


def _plain(text: str) -> str:
    """Without control characters and what ends or parts a tag."""
    return re.sub(r"[\x00-\x1f\x7f<>:]", " ", text).strip()
