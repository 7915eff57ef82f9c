"""What a picture file says of itself in its first bytes, read without a decoder and without allocating pixels.

Pillow checks sizes too, but late: its WebP reader reserves the whole canvas when a file is merely opened.
"""

from __future__ import annotations

import struct

from . import files
from .files import KINDS, Header, Limit, tiff

OTHER_KINDS = (
    (b"8BPS", "Photoshop"), (b"%!PS", "PostScript"), (b"\xc5\xd0\xd3\xc6", "PostScript"), (b"%PDF", "PDF"),
    (b"\0\0\1\0", "icon"), (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"PK\3\4", "ZIP"), (b"\x89PNG", "PNG"), (b"GIF8", "GIF"),
)
HEIC_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"hevc")


def read_header(data: bytes) -> Header | None:
    """Read what a picture file claims; None when it is of another kind or its header is damaged.

    Raises Limit for a file of too many parts.
    """
    name = files.kind_of(data)
    if name is None:
        return None
    try:
        return KINDS[name].reader.header(data)
    except Limit:
        raise
    except (struct.error, IndexError, ValueError):  # ends within the header, or makes no sense
        return None


def kind_of(data: bytes) -> str | None:
    """Name the kind of file that the first bytes belong to, such as "GIF"; None when nothing is recognised."""
    name = files.kind_of(data)
    if name == "TIFF" and _is_raw(data):
        return "camera raw"
    if name is not None:
        return KINDS[name].title
    if data[4:8] == b"ftyp":
        return "HEIC" if data[8:12] in HEIC_BRANDS else None
    if b"<svg" in data[:1024].lower():
        return "SVG"
    return next((name for start, name in OTHER_KINDS if data.startswith(start)), None)


def _is_raw(data: bytes) -> bool:
    try:
        return tiff.is_raw(tiff.directory(data), data)
    except (struct.error, ValueError):
        return False
