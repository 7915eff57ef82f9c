"""Look at every picture before any heavy work: ok, mended or left out, and why. The files are only read.

Imports no torch, so that the page can show the table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...errors import RequestError
from ...images.files import SHOWN
from .captions import MAX_CAPTIONS, NO_CAPTION, Caption, Captions, class_words
from .decoding import Encoding
from .listing import MASK, PICTURES, TABLES, TEXTS, File, Listing, fold_name, join_names, read_listing
from .picture import Picture, look, with_mask
from .tables import match, read_tables

MASK_FOLDERS = ("mask", "masks")
MAX_PICTURES = 20_000
TOKEN_LIMIT = 75  # of CLIP's 77 two are marks
NEAR = 4  # of 256 bits by which two pictures' hashes may differ and still be called alike

CountTokens = Callable[[str], int]


@dataclass(frozen=True)
class Survey(Sequence[Picture]):
    """The pictures of a folder, and sentences about whatever else in it is not used."""

    pictures: tuple[Picture, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: Any) -> Any:
        return self.pictures[index]


def survey(data: Path, *, resolution: int, count_tokens: CountTokens | None = None,
           encoding: Encoding = "auto") -> Survey:
    """Look at every picture under a folder, decoding each fully.

    A bad file is left out and named. encoding: of captions, tried before UTF-8. Raises RequestError when there is no
    picture, or no good one.
    """
    if not data.is_dir():
        raise RequestError("Data: there is no such folder.", "data")
    listing = read_listing(data)
    files, masks = _masks_apart(listing.of(PICTURES))
    broken = [(file, why) for file, why in listing.broken if file.suffix in PICTURES]
    if not files and not broken:
        raise RequestError(f"Data: there is no picture in it. {SHOWN} can be read.", "data")
    if len(files) > MAX_PICTURES:
        raise RequestError(f"Data: {len(files):,} pictures are too many; the limit is {MAX_PICTURES:,}.", "data")
    tables, notes = read_tables(listing.of(TABLES), encoding)
    rows, lost = match(tables, files)
    texts = Captions(listing.of(TEXTS), encoding)
    found, hashes = [], []
    for file in files:
        picture, near = look(file.path, file.name, resolution)
        if picture.used:
            caption = texts.read(file, rows.get(file.path, ()))
            picture = _captioned(picture, _with_class_words(caption, file.place), count_tokens)
            picture = replace(with_mask(picture, masks.get(file.path)), repeats=_repeats(file.place))
        found.append(picture)
        hashes.append(near)
    found = _without_duplicates(found, hashes)
    found += [Picture(file.path, file.name, verdict="left out", reasons=(why,)) for file, why in broken]
    if not any(picture.used for picture in found):
        first = found[0]
        raise RequestError(f"Data: none of the {len(found)} pictures can be used. The first, {first.name[:80]}: "
                           f"{'; '.join(first.reasons)}.", "data")
    orphans = [file.name for file in texts.others(files)]
    return Survey(tuple(found), (*notes, *lost, *_unused(listing, orphans, masks)))


def _unused(listing: Listing, orphans: list[str], masks: dict[Path, Path]) -> Iterator[str]:
    """What of a folder's other files nothing is made of."""
    if orphans:
        yield f"Captions of which there is no picture: {join_names(orphans)}."
    used = set(masks.values())
    alone = [file.name for file in listing.of(PICTURES) if file.place.stem.endswith(MASK) and file.path not in used]
    if alone:
        yield f"Masks of which there is no picture: {join_names(alone)}."
    if listing.links:
        yield f"Links to folders that are read already, or would be read without end: {join_names(listing.links)}."
    if listing.closed:
        yield f"Folders that cannot be opened: {join_names(listing.closed)}."
    broken = [file.name for file, _ in listing.broken if file.suffix not in PICTURES]
    if broken:
        yield f"Captions that are no plain files, or links that lead nowhere: {join_names(broken)}."
    if listing.unused:
        yield f"Not used, as neither pictures nor captions: {join_names(listing.unused)}."


def _masks_apart(files: list[File]) -> tuple[list[File], dict[Path, Path]]:
    """(pictures, mask of each): NAME-masklabel.png beside a picture, or NAME.png in a folder mask beside it."""
    by_stem: dict[tuple[PurePosixPath, str], list[Path]] = {}
    for file in files:
        by_stem.setdefault((file.place.parent, fold_name(file.place.stem)), []).append(file.path)
    pictures: list[File] = []
    masks: dict[Path, Path] = {}
    for file in files:
        stem, folder = file.place.stem, file.place.parent
        owners: list[Path] = []
        if stem.endswith(MASK):
            owners = by_stem.get((folder, fold_name(stem.removesuffix(MASK) or MASK)), [])
        elif folder.name.casefold() in MASK_FOLDERS:
            owners = by_stem.get((folder.parent, fold_name(stem)), [])
        masks |= dict.fromkeys(owners, file.path)
        if not owners and not stem.endswith(MASK):
            pictures.append(file)
    return pictures, masks


def _with_class_words(caption: Caption, place: PurePosixPath) -> Caption:
    """The caption, or the words of a folder such as "10_sks dog" where there is none."""
    kohya = class_words(place)
    if kohya is None:
        return caption
    repeats, words = kohya
    note = f"{repeats} repeats, by its folder's name" if repeats > 1 else ""
    if caption.texts or caption.has_file:
        return replace(caption, reasons=tuple(filter(None, (*caption.reasons, note))))
    return Caption((words,), tuple(filter(None, ("caption by its folder's name", note))))


def _repeats(place: PurePosixPath) -> int:
    kohya = class_words(place)
    return kohya[0] if kohya else 1


def split(pictures: Sequence[Picture], share: float, seed: int) -> tuple[list[Picture], list[Picture]]:
    """(trained on, held out), by the pictures' hashes: more or fewer files move no picture to the other side."""
    used = [picture for picture in pictures if picture.used]
    aside = set(held_out([picture.digest for picture in used if not picture.is_prior], share, seed))
    held = [picture for picture in used if not picture.is_prior and picture.digest in aside]
    return [picture for picture in used if picture.is_prior or picture.digest not in aside], held


def held_out(digests: Sequence[str], share: float, seed: int) -> list[str]:
    """Which pictures are not trained on, by their files' hashes; none where nothing would be left."""
    held = [digest for digest in digests if _draw(digest, seed) < share]
    return [] if len(held) == len(digests) else held


def _draw(digest: str, seed: int) -> float:
    return int(hashlib.sha256(f"{seed} {digest}".encode()).hexdigest()[:13], 16) / 16**13


def _captioned(picture: Picture, caption: Caption, count_tokens: CountTokens | None) -> Picture:
    reasons = [*picture.reasons, *caption.reasons]
    tokens = max(map(count_tokens, caption.texts), default=0) if count_tokens else 0
    if tokens > TOKEN_LIMIT:
        reasons.append(f"the caption has {tokens} tokens; what is beyond {TOKEN_LIMIT} is not read")
    mended = picture.verdict == "mended" or caption.mended
    return replace(picture, captions=caption.texts, tokens=tokens, reasons=tuple(reasons),
                   verdict="mended" if mended else "ok")


def _without_duplicates(pictures: list[Picture], hashes: list[np.ndarray | None]) -> list[Picture]:
    """Leave out every exact copy but the first, which gets their captions, and name near ones: they weigh double."""
    first: dict[str, int] = {}
    kept: list[tuple[np.ndarray, str]] = []
    result: list[Picture] = []
    for picture, near in zip(pictures, hashes, strict=True):
        if picture.used and picture.digest in first:
            own = result[first[picture.digest]]
            more = [text for text in picture.captions if text not in own.captions][:MAX_CAPTIONS - len(own.captions)]
            if more:
                kept_reasons = (why for why in own.reasons if why != NO_CAPTION)
                result[first[picture.digest]] = replace(
                    own, captions=(*own.captions, *more),
                    reasons=(*kept_reasons, f"with the caption of {picture.name[:80]}"))
            reason = f"the same file as {own.name[:80]}" + ("; its caption goes there" if more else "")
            picture = replace(picture, verdict="left out", reasons=(reason,))
        elif picture.used and near is not None:
            first[picture.digest] = len(result)
            alike = None
            if kept:
                apart = (np.stack([bits for bits, _ in kept]) != near).sum(1)
                alike = kept[int(apart.argmin())][1] if apart.min() <= NEAR else None
            if alike:
                picture = replace(picture, reasons=(*picture.reasons, f"looks like {alike[:80]}"))
            kept.append((near, picture.name))
        result.append(picture)
    return result
