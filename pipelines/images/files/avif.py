"""AVIF files: boxes within boxes that list items and their properties. ISO/IEC 14496-12 and 23008-12 (HEIF)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .facts import MAX_PARTS, Header, Texts, counted

BRANDS = (b"avif", b"avis")
SIZE, COLOURS = b"ispe", b"colr"


def boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Walk over (name, start of the data, its end) of the boxes in a range. Raises Limit for too many."""
    parts = 0
    while at + 8 <= end:
        parts = counted(parts + 1, MAX_PARTS, "boxes")
        length, name = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        last = end if length == 0 else at + length
        if last < start:
            raise ValueError("a box shorter than its own head")
        yield name, start, min(last, end)
        at = last


def is_avif(data: bytes) -> bool:
    """Tell whether one of the brands of a file is AVIF's; HEIC files have the same form."""
    if data[4:8] != b"ftyp":
        return False
    end = min(struct.unpack_from(">I", data, 0)[0], 256)
    brands = [data[8:12], *(data[at:at + 4] for at in range(16, end, 4))]
    return any(brand in BRANDS for brand in brands)


def header(data: bytes) -> Header | None:
    """Read the largest size that any item has, and the colours; None when no size is said.

    The size of the picture itself cannot be larger: one that is made of tiles says its own.
    """
    sizes, cicp, has_profile, frames = [], None, False, 1
    for name, start, end in boxes(data, 0, len(data)):
        frames = 2 if name == b"moov" else frames
        if name != b"meta":
            continue
        for kind, first, _ in _properties(data, start + 4, end):
            if kind == SIZE:
                sizes.append(struct.unpack_from(">II", data, first + 4))
            elif kind == COLOURS and data[first:first + 4] == b"nclx":
                cicp = cicp or struct.unpack_from(">HH", data, first + 4)
            elif kind == COLOURS:
                has_profile = True
    if not sizes:
        return None
    return Header("AVIF", *max(sizes, key=lambda size: size[0] * size[1]), frames=frames, has_profile=has_profile,
                  cicp=cicp, is_bounded=False)


def pixels(data: bytes) -> bytes:
    """Return the file as it is: its parts are found by their places."""
    return data


def texts(data: bytes) -> Texts:
    """Read the items of EXIF data and of XMP."""
    exif = xmp = b""
    for name, start, end in boxes(data, 0, len(data)):
        if name != b"meta":
            continue
        inside = {kind: (first, last) for kind, first, last in boxes(data, start + 4, end)}
        kinds = _kinds(data, *inside[b"iinf"]) if b"iinf" in inside else {}
        places = _places(data, inside[b"iloc"][0]) if b"iloc" in inside else {}
        for item, kind in kinds.items():
            raw = data[slice(*places.get(item, (0, 0)))]
            if kind == b"Exif":
                exif = raw[4 + int.from_bytes(raw[:4], "big"):]  # after the number of bytes before the block
            elif kind == b"mime":
                xmp = raw
    return Texts({}, exif, xmp)


def _properties(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    for name, start, last in boxes(data, at, end):
        if name == b"iprp":
            for inner, first, final in boxes(data, start, last):
                if inner == b"ipco":
                    yield from boxes(data, first, final)


def _kinds(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """Number of an item -> what it is, of the box iinf."""
    found = {}
    for name, at, _ in boxes(data, start + (6 if data[start] == 0 else 8), end):
        if name == b"infe" and data[at] >= 2:
            item, _, kind = struct.unpack_from(">HH4s" if data[at] == 2 else ">IH4s", data, at + 4)
            found[item] = kind
    return found


def _places(data: bytes, at: int) -> dict[int, tuple[int, int]]:
    """Number of an item -> (start, end) of its first piece in the file, of the box iloc."""
    version, sizes, more = data[at], data[at + 4], data[at + 5]
    widths = sizes >> 4, sizes & 15, more >> 4, (more & 15) if version else 0  # of offset, length, base, index
    wide = 4 if version == 2 else 2
    at += 6
    count, at = int.from_bytes(data[at:at + wide], "big"), at + wide
    found = {}
    for _ in range(counted(count, MAX_PARTS, "items")):
        item, at = int.from_bytes(data[at:at + wide], "big"), at + wide
        at += 2 if version else 0  # how the place is meant
        at += 2  # which file: this one
        base, at = int.from_bytes(data[at:at + widths[2]], "big"), at + widths[2]
        pieces, at = int.from_bytes(data[at:at + 2], "big"), at + 2
        piece = widths[3] + widths[0] + widths[1]
        start = base + int.from_bytes(data[at + widths[3]:at + widths[3] + widths[0]], "big")
        length = int.from_bytes(data[at + widths[3] + widths[0]:at + piece], "big")
        found[item] = start, start + length
        at += pieces * piece
    return found
