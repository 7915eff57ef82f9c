"""GIF files: blocks of pictures and extensions, each a chain of up to 255 bytes at a time. CompuServe, GIF89a."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from .facts import MAX_PIXEL_PARTS, Header, Limit, Texts, counted, utf8_or_latin1

MAGIC = (b"GIF87a", b"GIF89a")
HEAD = 13  # bytes: name and version, size of the canvas, flags
EXTENSION, PICTURE, END = 0x21, 0x2C, 0x3B  # the first bytes of what a file consists of
COMMENT, CONTROL = 0xFE, 0xF9  # kinds of extension
MAX_LINKS = 500_000  # of all chains; programs fill all 255 bytes of one, which makes 127 MB


def blocks(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Walk over (kind, its label, start, end) of the blocks; the label is that of an extension, else 0.

    Raises Limit for too many, IndexError where the file ends within one.
    """
    at, parts, links = HEAD + _colours(data[10]), 0, 0
    while data[at] in (EXTENSION, PICTURE):
        parts = counted(parts + 1, MAX_PIXEL_PARTS, "blocks")
        is_extension = data[at] == EXTENSION
        chain = at + 2 if is_extension else at + 11 + _colours(data[at + 9])  # behind place, flags, colours, code size
        end, links = _end_of_chain(data, chain, links)
        yield data[at], data[at + 1] if is_extension else 0, at, end
        at = end
    if data[at] != END:
        raise IndexError  # no block begins here
    yield END, 0, at, at + 1


def header(data: bytes) -> Header | None:
    """Read the size that canvas and first picture need, and whether more pictures follow; None without a picture."""
    width, height, frames = *struct.unpack_from("<HH", data, 6), 0
    try:
        for kind, _, start, _ in blocks(data):
            if kind == PICTURE and frames == 0:
                left, top, wide, high = struct.unpack_from("<HHHH", data, start + 1)
                width, height = max(width, left + wide), max(height, top + high)
            frames += kind == PICTURE
    except IndexError:  # cut off behind the first picture, or within it: the decoder says so
        pass
    return Header("GIF", width, height, frames=frames) if frames else None


def pixels(data: bytes) -> bytes:
    """Return the file with its first picture alone, and the control block that says which colour is transparent."""
    control = b""
    for kind, label, start, end in blocks(data):
        if kind == PICTURE:
            return data[:HEAD + _colours(data[10])] + control + data[start:end] + bytes([END])
        if label == CONTROL:
            control = data[start:end]
    raise IndexError


def texts(data: bytes) -> Texts:
    """Read the first comment. Raises IndexError where the file is cut off before it."""
    for _, label, start, _ in blocks(data):
        if label == COMMENT:
            return Texts({"comment": utf8_or_latin1(_joined(data, start + 2))})
    return Texts({})


def _colours(flags: int) -> int:
    """Bytes of the colour table that the flags announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _end_of_chain(data: bytes, at: int, links: int) -> tuple[int, int]:
    """Where a chain ends, and how many links there were in all with those before it."""
    while length := data[at]:
        at += 1 + length
        links += 1
        if links > MAX_LINKS:
            raise Limit(f"its blocks have more than {MAX_LINKS:,} links, which no program writes.")
    return at + 1, links


def _joined(data: bytes, at: int) -> bytes:
    parts = []
    while length := data[at]:
        parts.append(data[at + 1:at + 1 + length])
        at += 1 + length
    return b"".join(parts)
