"""The LoRA files that can be chosen: found by what they contain, answered for by name. Imports no torch.

A name from outside is looked up in what was found; it is never joined to a path.
"""

from __future__ import annotations

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
    """Find the LoRA files in the data folder's loras and below the model folders, by name.

    before: cards of an earlier look; files with the same size and time are not read again.
    """
    own = settings.data_dir / "loras"
    known = {card.path: card for card in before}
    cards: list[AdapterCard] = []
    seen: set[Path] = set()
    for root in (own, *settings.model_dir):
        for path in _files(root):
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            above = (root.name, *path.relative_to(root.resolve()).parts[:-1])
            expected = root == own or any(part.lower() in OWN_FOLDERS for part in above)
            card = _card(path, expected, known.get(path))
            if card is not None:
                cards.append(_named(card, cards, root))
    return tuple(sorted(cards, key=lambda card: card.name.casefold()))


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


def _files(root: Path) -> Iterator[Path]:
    """Weight files below `root`; hidden ones, checkpoint folders and links that lead out are left out."""
    base = root.resolve()
    for place, folders, files in os.walk(base):
        here = Path(place)
        deep = len(here.relative_to(base).parts) >= MAX_DEPTH
        folders[:] = [] if deep or "model_index.json" in files else sorted(
            name for name in folders if not name.startswith("."))
        if "model_index.json" in files:
            continue
        for path in sorted(here / name for name in files if not name.startswith(".")):
            is_weights = path.suffix.lower() == ".safetensors" or path.suffix.lower() in PICKLES
            if is_weights and path.resolve().is_relative_to(base):
                yield path


def _card(path: Path, expected: bool, known: AdapterCard | None) -> AdapterCard | None:
    """The card of a file; None for what is no LoRA and lies where others lie too."""
    try:
        facts = path.stat()
        seen = {"size_bytes": facts.st_size, "changed_ns": facts.st_mtime_ns}
        if known and all(getattr(known, key) == value for key, value in seen.items()):
            return replace(known, name=_plain(path.stem), **_beside(path))
        refuse_pickle(path)
        header = read_header(path)
        if not keys.is_adapter(header.shapes):
            raise ModelError(f"{path.name[:80]} cannot be used: it holds no LoRA.")
        return replace(AdapterCard(_plain(path.stem), path=path, **seen, **_said(header)), **_beside(path))
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


def _beside(path: Path) -> dict[str, Any]:
    """What the files beside a LoRA tell: AUTOMATIC1111's NAME.json, Civitai's NAME.civitai.info, a picture."""
    found: dict[str, Any] = {"preview": next(
        (picture for suffix in PREVIEWS if (picture := path.with_suffix(suffix)).is_file()), None)}
    own, civitai = _json(path.with_suffix(".json")), _json(path.with_suffix(".civitai.info"))
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
        return read_json(path) if path.is_file() else {}
    except ModelError:  # notes that cannot be read are no reason to leave a LoRA out
        return {}


def _named(card: AdapterCard, cards: list[AdapterCard], root: Path) -> AdapterCard:
    """With the folders above it when another file has that name already."""
    taken = {other.name.casefold() for other in cards}
    long = _plain(card.path.relative_to(root.resolve()).with_suffix("").as_posix())
    candidates = chain((card.name, long), (f"{long} ({n})" for n in count(2)))
    return replace(card, name=next(name for name in candidates if name.casefold() not in taken))


def _plain(text: str) -> str:
    """Without control characters and what ends or parts a tag."""
    return re.sub(r"[\x00-\x1f\x7f<>:]", " ", text).strip()
