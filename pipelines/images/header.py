"""What a picture file says of itself in its first bytes, read without a decoder and without allocating pixels.

Pillow checks sizes too, but late: its WebP reader reserves the whole canvas when a file is merely opened.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

OTHER_KINDS = (
    (b"GIF8", "GIF"), (b"BM", "BMP"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II+\0", "TIFF"), (b"MM\0+", "TIFF"),
    (b"8BPS", "Photoshop"), (b"%!PS", "PostScript"), (b"\xc5\xd0\xd3\xc6", "PostScript"), (b"%PDF", "PDF"),
    (b"\0\0\1\0", "icon"), (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL ", "JPEG XL"), (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"PK\3\4", "ZIP"),
)
ISO_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIC", b"msf1": "HEIC"}
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG: start of frame, any coding
BARE_MARKERS = frozenset(range(0xD0, 0xDA)) | {0x01}  # JPEG: markers without a length
START_OF_SCAN = 0xDA


class Header(NamedTuple):
    """format: Pillow's name, PNG, JPEG or WEBP. width, height: pixels, as claimed."""

    format: str
    width: int
    height: int


def read_header(data: bytes) -> Header | None:
    """Read format and size of a PNG, JPEG or WebP file; None when it is another kind or its header is damaged."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError):  # ends within the header
        return None
    return None


def kind_of(data: bytes) -> str | None:
    """Name the kind of file that the first bytes belong to, such as "GIF"; None when nothing is recognised."""
    if data.startswith(b"\x89PNG"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF":
        return "WebP" if data[8:12] == b"WEBP" else None
    if data[4:8] == b"ftyp":
        return ISO_BRANDS.get(data[8:12])
    if b"<svg" in data[:1024].lower():
        return "SVG"
    return next((name for start, name in OTHER_KINDS if data.startswith(start)), None)


def _png(data: bytes) -> Header | None:
    if data[12:16] != b"IHDR":
        return None
    return Header("PNG", *struct.unpack_from(">II", data, 16))


def _jpeg(data: bytes) -> Header | None:
    position = 2
    while True:
        if data[position] != 0xFF:
            return None
        while data[position] == 0xFF:  # fill bytes may stand before a marker
            position += 1
        marker = data[position]
        position += 1
        if marker in BARE_MARKERS:
            continue
        if marker == START_OF_SCAN:
            return None
        (length,) = struct.unpack_from(">H", data, position)
        if marker in FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, position + 3)
            return Header("JPEG", width, height)
        position += max(length, 2)


def _webp(data: bytes) -> Header | None:
    chunk = data[12:16]
    if chunk == b"VP8X":
        return Header("WEBP", 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"))
    if chunk == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header("WEBP", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("WEBP", width & 0x3FFF, height & 0x3FFF)
    return None
