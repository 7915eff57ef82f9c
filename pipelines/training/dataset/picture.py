"""One training picture: its file decoded and judged, its mask, and its pixels when needed. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import RequestError
from ...images.colours import UNUSABLE
from ...images.convert import MAX_PHOTO_BYTES, convert_photo, fitting, flatten
from ...images.files import Limit
from ...images.header import read_header

MIN_SIDE = 64  # px; smaller pictures are mush when enlarged


@dataclass(frozen=True)
class Picture:
    """A picture of a dataset. name: relative to its folder, with /. digest: SHA-256 of the file, "" when unread.

    width, height: px as read, after the EXIF turn. captions: of several, a run shows one at a time. tokens: of the
    longest, 0 when not counted. verdict: ok, mended or left out. reasons: why, in plain words. mask: a
    white-is-learned file beside it; transparent: its alpha can be the mask. repeats: how often it counts within an
    epoch. weight: of its loss; is_prior: of the regularisation pictures.
    """

    path: Path
    name: str
    digest: str = ""
    width: int = 0
    height: int = 0
    captions: tuple[str, ...] = ()
    tokens: int = 0
    verdict: str = "ok"
    reasons: tuple[str, ...] = ()
    mask: Path | None = None
    transparent: bool = False
    repeats: int = 1
    weight: float = 1.0
    is_prior: bool = False

    @property
    def used(self) -> bool:
        return self.verdict != "left out"

    @property
    def caption(self) -> str:
        """Its captions, one a line."""
        return "\n".join(self.captions)

    @property
    def has_mask(self) -> bool:
        return self.transparent or self.mask is not None


def look(path: Path, name: str, resolution: int) -> tuple[Picture, np.ndarray | None]:
    """Decode one file. Returns the picture and its near-duplicate hash: 256 bits, None for a bad one."""
    try:
        if path.stat().st_size > MAX_PHOTO_BYTES:  # refused below; its hash would be read for nothing
            convert_photo(path)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        reasons = list(_oddities(path))
        image, notices = convert_photo(path)
    except RequestError as error:
        return Picture(path, name, verdict="left out", reasons=(_reason(str(error)),)), None
    except OSError:
        return Picture(path, name, verdict="left out", reasons=("the file cannot be opened",)), None
    reasons += [_reason(notice) for notice in notices if notice == UNUSABLE]  # the others were said from the header
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
        header = read_header(path.read_bytes())
    except Limit:
        return
    if header is None:
        return
    if fitting(header.width, header.height) != (header.width, header.height):
        yield f"large: {header.width} x {header.height} px are read at a smaller size"
    if header.frames > 1:
        yield "several pictures in one file: the first is used" if header.format == "TIFF" else \
            "animated: its first frame is used"
    if header.orientation != 1:
        yield "turned as its EXIF data says"
    if header.depth == 16:
        yield "16-bit: reduced to 8"
    if header.is_cmyk:
        yield "CMYK: converted to RGB"


def with_mask(picture: Picture, mask: Path | None) -> Picture:
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


def open_picture(picture: Picture) -> tuple[Image.Image, Image.Image | None]:
    """Its pixels (RGB, on white) and where it counts (L, white is learned): of the mask file, else of its alpha."""
    image, _ = convert_photo(picture.path, apart=False)  # the survey has decoded it before
    mask = image.getchannel("A") if image.mode == "RGBA" else None
    if picture.mask is not None:
        mask = flatten(convert_photo(picture.mask, apart=False)[0]).convert("L")
        mask = mask if mask.size == image.size else mask.resize(image.size, Image.Resampling.BILINEAR)
    return flatten(image), mask


def _near_hash(image: Image.Image) -> np.ndarray:
    """256 bits: whether each cell of a 17 x 16 grey picture is brighter than its neighbour (difference hash)."""
    grey = np.asarray(flatten(image).convert("L").resize((17, 16), Image.Resampling.BOX), np.int16)
    return (grey[:, 1:] > grey[:, :-1] + 1).ravel()


def _reason(sentence: str) -> str:
    """A conversion's sentence as a reason in a list: without the field and the full stop."""
    return sentence.removeprefix("Picture: ").rstrip(".")
