"""The comment of a GIF file, found by walking over its blocks: its pictures are never decoded."""

from __future__ import annotations

import os

MAGIC = (b"GIF87a", b"GIF89a")
HEAD = 13  # bytes: name and version, size of the canvas, flags
EXTENSION, PICTURE, END = 0x21, 0x2C, 0x3B  # the first bytes of what a file consists of
COMMENT = 0xFE  # a kind of extension
MAX_BYTES = 64_000_000  # that are looked at


def is_gif(path: str | os.PathLike) -> bool:
    """Whether a file begins as a GIF does. Raises OSError."""
    with open(path, "rb") as file:
        return file.read(6) in MAGIC


def comment(path: str | os.PathLike) -> str | None:
    """Return the first comment of a whole GIF file, "" where there is none; None for any other file. Raises OSError."""
    if not is_gif(path):
        return None
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES)
    try:
        found = _first_comment(data)
    except IndexError:  # ends within a block
        return None
    return None if found is None else found.decode("utf-8", "replace")


def _first_comment(data: bytes) -> bytes | None:
    at = HEAD + _colours(data[10])
    while True:
        if data[at] == EXTENSION:
            label, (inside, at) = data[at + 1], _blocks(data, at + 2)
            if label == COMMENT:
                return inside
        elif data[at] == PICTURE:  # place and size, flags, colours, bits of a code, codes
            _, at = _blocks(data, at + 11 + _colours(data[at + 9]))
        else:
            return b"" if data[at] == END else None


def _colours(flags: int) -> int:
    """Bytes of the colour table that the flags announce."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _blocks(data: bytes, at: int) -> tuple[bytes, int]:
    """What lies in a chain of blocks, each with its length before it, and where it ends."""
    parts = []
    while length := data[at]:
        parts.append(data[at + 1:at + 1 + length])
        at += 1 + length
    return b"".join(parts), at + 1
