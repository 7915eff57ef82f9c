"""WebP files: RIFF chunks, each with name, length and data. RFC 9649."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .facts import MAX_PIXEL_PARTS, Header, Texts, counted
from .tiff import orientation

ANIMATION = 0x02  # of the flags of VP8X


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Walk over (name, start of the data, its end). Raises Limit for too many."""
    at, parts = 12, 0
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        parts = counted(parts + 1, MAX_PIXEL_PARTS, "chunks")
        yield name, at + 8, min(at + 8 + length, len(data))
        at += 8 + length + length % 2


def header(data: bytes) -> Header | None:
    """Read size, orientation, and whether there is an animation or a profile; None for a damaged beginning."""
    size, frames = _size(data), 1
    if size is None:
        return None
    places = {name: (start, end) for name, start, end in chunks(data)}
    if b"VP8X" in places and data[places[b"VP8X"][0]] & ANIMATION:
        frames = 2
    turn = orientation(data[slice(*places[b"EXIF"])]) if b"EXIF" in places else 1
    return Header("WEBP", *size, frames=frames, has_profile=b"ICCP" in places, orientation=turn)


def _size(data: bytes) -> tuple[int, int] | None:
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None


def pixels(data: bytes) -> bytes:
    """Return the file as it is: its decoder passes over what is not for it."""
    return data


def texts(data: bytes) -> Texts:
    """Read the EXIF data and XMP."""
    places = {name: (start, end) for name, start, end in chunks(data)}
    exif, xmp = (data[slice(*places.get(name, (0, 0)))] for name in (b"EXIF", b"XMP "))
    return Texts({}, exif, xmp)
