"""BMP files: one header of fixed places. Microsoft, BITMAPINFOHEADER."""

from __future__ import annotations

import struct

from .facts import Header, Texts

OLD_HEADER = 12  # bytes of OS/2's, with sizes of two bytes

RUN_LENGTHS = (1, 2)  # codings of the pixels


def header(data: bytes) -> Header | None:
    """Read the size; None for a header of no known kind."""
    (kind,) = struct.unpack_from("<I", data, 14)
    if kind == OLD_HEADER:
        return Header("BMP", *struct.unpack_from("<HH", data, 18))
    if kind < 40:
        return None
    width, height = struct.unpack_from("<ii", data, 18)
    (coding,) = struct.unpack_from("<I", data, 30)
    # A negative height: the rows stand from top to bottom. Run lengths are decoded in Python.
    return Header("BMP", width, abs(height), is_bounded=coding not in RUN_LENGTHS)


def pixels(data: bytes) -> bytes:
    """Return the file as it is."""
    return data


def texts(data: bytes) -> Texts:
    """Return nothing: there is no place for a text."""
    return Texts({})
