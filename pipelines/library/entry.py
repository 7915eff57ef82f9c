"""One thing in the library, as a page shows it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..errors import ModelError, quoted
from ..families import FAMILIES
from .hashes import AUTO_V2, AUTO_V3, file_stamp
from .read.card import ModelCard
from .recognise import card_of
from .scan import Found

KINDS = {"checkpoint": "Checkpoint", "lora": "LoRA", "vae": "VAE", "embedding": "Embedding"}  # and their names


@dataclass(frozen=True)
class LibraryEntry:
    """A checkpoint, LoRA, autoencoder or embedding on this disk.

    id: for pages, which never see a path. kind: a key of KINDS. name: unique among its kind; what requests carry.
    folder: where it lies, from its place on. family: key of FAMILIES, or words, or "" when nothing tells;
    family_label: for reading. format: such as "safetensors, float16". facts: ranks, alpha and alias (LoRA), vectors
    and widths (embedding), layout and latent_channels (autoencoder). fault: one sentence why it cannot be used, ""
    when it can. auto_v2, auto_v3: hashes, "" until they were asked for. card: of a checkpoint that can be used.
    """

    id: str
    kind: str
    name: str
    title: str
    path: Path
    folder: str
    family: str
    family_label: str
    format: str
    size_bytes: int
    modified_s: float
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)
    fault: str = ""
    preview: Path | None = None
    notes: str = ""
    trigger_words: tuple[str, ...] = ()
    negative_words: str = ""
    preferred_weight: float | None = None
    auto_v2: str = ""
    auto_v3: str = ""
    card: ModelCard | None = field(default=None, compare=False)

    @property
    def words(self) -> str:
        """Everything that a search looks at, in small letters."""
        return "\n".join((self.name, self.title, self.folder, self.family_label, self.notes,
                          *self.trigger_words, self.auto_v2, self.auto_v3)).casefold()


def entry_of(found: Found, hashes: Mapping[str, tuple[str, str, str]]) -> LibraryEntry:
    """Make the entry. hashes: path -> (stamp, whole, body), as the store keeps them."""
    item, finding = found.item, found.finding
    stamp, whole, body = hashes.get(str(item.path), ("", "", ""))
    known = stamp == file_stamp(item.size_bytes, item.modified_s)
    card = card_of(finding, found.name) if finding.card else None
    return LibraryEntry(
        id=hashlib.sha256(str(item.path).encode(errors="surrogateescape")).hexdigest()[:16], kind=finding.kind,
        name=found.name, title=finding.said.title or (card.title if card else found.name), path=item.path,
        folder=item.place.name or item.path.parent.relative_to(item.place.root).as_posix(), family=finding.family,
        family_label=FAMILIES[finding.family].label if finding.family in FAMILIES else finding.family,
        format=finding.format, size_bytes=item.size_bytes, modified_s=item.modified_s, facts=finding.facts,
        fault=finding.fault, preview=item.preview, notes=finding.said.notes, trigger_words=finding.said.trigger_words,
        negative_words=finding.said.negative_words, preferred_weight=finding.said.preferred_weight,
        auto_v2=whole[:AUTO_V2] if known else "", auto_v3=(body[:AUTO_V3] if known else "") or finding.body_hash,
        card=card)


def search(entries: Iterable[LibraryEntry], words: str = "", kind: str = "", family: str = "") -> tuple[
        LibraryEntry, ...]:
    """Choose the entries that contain every one of the words, of a kind and of a family when these are given."""
    wanted = words[:500].casefold().split()
    return tuple(entry for entry in entries if kind in ("", entry.kind) and family in ("", entry.family)
                 and (not wanted or all(word in text for text in (entry.words,) for word in wanted)))


def named(entries: Iterable[LibraryEntry], name: str) -> LibraryEntry | None:
    """The entry of that name, or else the one whose maker called it so (small and capital letters are one)."""
    wanted, known = name.casefold(), tuple(entries)
    for key in (lambda entry: entry.name, lambda entry: entry.facts.get("alias", "")):
        for entry in known:
            if wanted and key(entry).casefold() == wanted:
                return entry
    return None


def lookup(entries: Sequence[LibraryEntry], kind: str, name: str) -> LibraryEntry:
    """As `named`; ModelError, which names the nearest, when there is none, or when it cannot be used.

    A name from outside is looked up in what was found; it is never joined to a path. kind: of the entries.
    """
    found = named(entries, name)
    if found is None:
        shown = quoted(name)
        nearest = get_close_matches(name[:200], [entry.name for entry in entries], n=1, cutoff=0)
        raise ModelError(f"{KINDS[kind]}: {shown} is not here."
                         + (f" The nearest is {nearest[0]!r}." if nearest else ""))
    if found.fault:
        raise ModelError(found.fault)
    return found
