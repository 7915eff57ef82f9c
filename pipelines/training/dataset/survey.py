"""Look at every picture before any heavy work: ok, mended or left out, and why. The files are only read.

Imports no torch, so that the page can show the table.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import RequestError
from ...images.convert import DECODERS, MAX_PIXELS, ORIENTATION_TAG, convert_photo, flatten
from ...images.header import read_header
from . import captions
from .archive import MASK, is_junk

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jxl")
MIN_SIDE = 64  # px; smaller pictures are mush when enlarged
MAX_PICTURES = 20_000
TOKEN_LIMIT = 75  # of CLIP's 77 two are marks
NEAR = 4  # of 256 bits by which two pictures' hashes may differ and still be called alike

HEAD_BYTES = 1 << 20  # a JPEG's size stands behind its EXIF data, thumbnail and profile

CountTokens = Callable[[str], int]


@dataclass(frozen=True)
class Picture:
    """A picture of a dataset. name: relative to its folder, with /. digest: SHA-256 of the file, "" when unread.

    width, height: px as read, after the EXIF turn. verdict: ok, mended or left out. reasons: why, in plain words.
    tokens: of the caption, 0 when not counted. mask: a white-is-learned file beside it; transparent: its alpha can be
    the mask. weight: of its loss; is_prior: of the regularisation pictures.
    """

    path: Path
    name: str
    digest: str = ""
    width: int = 0
    height: int = 0
    caption: str = ""
    tokens: int = 0
    verdict: str = "ok"
    reasons: tuple[str, ...] = ()
    mask: Path | None = None
    transparent: bool = False
    weight: float = 1.0
    is_prior: bool = False

    @property
    def used(self) -> bool:
        return self.verdict != "left out"

    @property
    def has_mask(self) -> bool:
        return self.transparent or self.mask is not None


def survey(data: Path, *, resolution: int, count_tokens: CountTokens | None = None) -> tuple[Picture, ...]:
    """Look at every picture under a folder, decoding each fully.

    A bad file is left out and named. Raises RequestError when there is no picture, or no good one.
    """
    if not data.is_dir():
        raise RequestError("Data: there is no such folder.", "data")
    data = data.resolve()  # it may be a link
    files = list(_files(data))
    masks = {path.with_name(path.stem.removesuffix(MASK) or MASK): path for path in files if path.stem.endswith(MASK)}
    files = [path for path in files if not path.stem.endswith(MASK)]
    if not files:
        raise RequestError("Data: there is no picture in it. PNG, JPEG and WebP can be read.", "data")
    if len(files) > MAX_PICTURES:
        raise RequestError(f"Data: {len(files):,} pictures are too many; the limit is {MAX_PICTURES:,}.", "data")
    tables: dict[Path, dict[str, str]] = {}
    found, hashes = [], []
    for path in files:
        picture, near = _look(path, path.relative_to(data).as_posix(), resolution)
        if picture.used:
            picture = _captioned(picture, captions.read(path, _from_tables(path, data, tables)), count_tokens)
            picture = _masked(picture, masks.get(path.with_name(path.stem)))
        found.append(picture)
        hashes.append(near)
    found = _without_duplicates(found, hashes)
    if not any(picture.used for picture in found):
        first = found[0]
        raise RequestError(f"Data: none of the {len(found)} pictures can be used. The first, {first.name[:80]}: "
                           f"{'; '.join(first.reasons)}.", "data")
    return tuple(found)


def _from_tables(path: Path, root: Path, tables: dict[Path, dict[str, str]]) -> str | None:
    """What the metadata.jsonl of a picture's folder, or of one above it, says of it. tables: those read so far."""
    for place in (place for place in path.parents if place.is_relative_to(root)):
        if place not in tables:
            tables[place] = captions.read_table(place)
        text = tables[place].get(path.relative_to(place).as_posix())
        if text is not None:
            return text
    return None


def split(pictures: tuple[Picture, ...], share: float, seed: int) -> tuple[list[Picture], list[Picture]]:
    """(trained on, held out), by the pictures' hashes: more or fewer files move no picture to the other side."""
    used = [picture for picture in pictures if picture.used]
    aside = set(held_out([picture.digest for picture in used if not picture.is_prior], share, seed))
    held = [picture for picture in used if not picture.is_prior and picture.digest in aside]
    return [picture for picture in used if picture.is_prior or picture.digest not in aside], held


def held_out(digests: Sequence[str], share: float, seed: int) -> list[str]:
    """Which pictures are not trained on, by their files' hashes; none where nothing would be left."""
    held = [digest for digest in digests if _draw(digest, seed) < share]
    return [] if len(held) == len(digests) else held


def open_picture(picture: Picture) -> tuple[Image.Image, Image.Image | None]:
    """Its pixels (RGB, on white) and where it counts (L, white is learned): of the mask file, else of its alpha."""
    image, _ = convert_photo(picture.path)
    mask = image.getchannel("A") if image.mode == "RGBA" else None
    if picture.mask is not None:
        mask = flatten(convert_photo(picture.mask)[0]).convert("L")
        mask = mask if mask.size == image.size else mask.resize(image.size, Image.Resampling.BILINEAR)
    return flatten(image), mask


def _draw(digest: str, seed: int) -> float:
    return int(hashlib.sha256(f"{seed} {digest}".encode()).hexdigest()[:13], 16) / 16**13


def _files(root: Path) -> Iterator[Path]:
    """Pictures under a folder in a stable order; hidden ones, junk and links that lead out are passed over."""
    base = root.resolve()
    for place, folders, files in os.walk(base):
        folders[:] = sorted(name for name in folders if not is_junk((name,)))
        for name in sorted(files):
            path = Path(place) / name
            if path.suffix.lower() in PICTURES and not is_junk((name,)) and path.resolve().is_relative_to(base):
                yield path


def _look(path: Path, name: str, resolution: int) -> tuple[Picture, np.ndarray | None]:
    """Decode one file. Returns the picture and its near-duplicate hash: 256 bits, None for a bad one."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        reasons = list(_oddities(path))
        image, notices = convert_photo(path)
    except RequestError as error:
        return Picture(path, name, verdict="left out", reasons=(_reason(str(error)),)), None
    except OSError:
        return Picture(path, name, verdict="left out", reasons=("the file cannot be opened",)), None
    reasons += [_reason(notice) for notice in notices if "animated" not in notice]
    if image.mode == "RGBA":
        reasons.append("transparent: laid on white")
    picture = Picture(path, name, digest, *image.size, transparent=image.mode == "RGBA")
    if min(image.size) < MIN_SIDE:
        too_small = f"too small: {image.width} x {image.height} px; at least {MIN_SIDE} px a side"
        return replace(picture, verdict="left out", reasons=(too_small,)), None
    if image.width * image.height < resolution**2 * 0.9:
        reasons.append(f"small: {image.width} x {image.height} px are enlarged")
    verdict = "mended" if reasons else "ok"
    return replace(picture, verdict=verdict, reasons=tuple(reasons)), _near_hash(image)


def _oddities(path: Path) -> Iterator[str]:
    """What the conversion will change, from the header alone. A damaged header is the conversion's to refuse."""
    try:
        with path.open("rb") as file:
            start = file.read(HEAD_BYTES)
        header = read_header(start)
        if header is not None and header.width * header.height > MAX_PIXELS:
            yield f"large: {header.width} x {header.height} px are read at a smaller size"
        with DECODERS[header.format](path) if header is not None else Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                yield "animated: its first frame is used"
            if image.getexif().get(ORIENTATION_TAG, 1) not in (1, None):
                yield "turned as its EXIF data says"
            if image.mode == "CMYK":
                yield "CMYK: converted to RGB"
            deep = start.startswith(b"\x89PNG") and start[24:25] == b"\x10"
            if image.mode.startswith("I") or deep:
                yield "16-bit: reduced to 8"
    except Exception:  # decoders raise many kinds for damaged files
        return


def _captioned(picture: Picture, caption: captions.Caption, count_tokens: CountTokens | None) -> Picture:
    reasons = [*picture.reasons, *caption.reasons]
    tokens = count_tokens(caption.text) if count_tokens else 0
    if tokens > TOKEN_LIMIT:
        reasons.append(f"the caption has {tokens} tokens; what is beyond {TOKEN_LIMIT} is not read")
    mended = picture.verdict == "mended" or any("UTF-8" in reason for reason in caption.reasons)
    return replace(picture, caption=caption.text, tokens=tokens, reasons=tuple(reasons),
                   verdict="mended" if mended else "ok")


def _masked(picture: Picture, mask: Path | None) -> Picture:
    """The picture with the mask file beside it. One that cannot be read is said, and all of the picture is learned."""
    if mask is None:
        return picture
    try:
        brightest = flatten(convert_photo(mask)[0]).convert("L").getextrema()[1]
    except (RequestError, OSError) as error:
        why = _reason(str(error)) if isinstance(error, RequestError) else "the file cannot be opened"
        return replace(picture, verdict="mended", reasons=(*picture.reasons, f"its mask is not used: {why}"))
    black = () if brightest else ("its mask is all black: with masks, nothing of it is learned",)
    return replace(picture, mask=mask, reasons=(*picture.reasons, *black))


def _without_duplicates(pictures: list[Picture], hashes: list[np.ndarray | None]) -> list[Picture]:
    """Leave out every exact copy but the first, and name near ones: they weigh double."""
    first: dict[str, Picture] = {}
    kept: list[tuple[np.ndarray, str]] = []
    result = []
    for picture, near in zip(pictures, hashes, strict=True):
        if picture.used and picture.digest in first:
            reason = f"the same file as {first[picture.digest].name[:80]}"
            picture = replace(picture, verdict="left out", reasons=(reason,))
        elif picture.used and near is not None:
            first[picture.digest] = picture
            alike = None
            if kept:
                apart = (np.stack([bits for bits, _ in kept]) != near).sum(1)
                alike = kept[int(apart.argmin())][1] if apart.min() <= NEAR else None
            if alike:
                picture = replace(picture, reasons=(*picture.reasons, f"looks like {alike[:80]}"))
            kept.append((near, picture.name))
        result.append(picture)
    return result


def _near_hash(image: Image.Image) -> np.ndarray:
    """256 bits: whether each cell of a 17 x 16 grey picture is brighter than its neighbour (difference hash)."""
    grey = np.asarray(flatten(image).convert("L").resize((17, 16), Image.Resampling.BOX), np.int16)
    return (grey[:, 1:] > grey[:, :-1] + 1).ravel()


def _reason(sentence: str) -> str:
    """A conversion's sentence as a reason in a list: without the field and the full stop."""
    return sentence.removeprefix("Picture: ").rstrip(".")
