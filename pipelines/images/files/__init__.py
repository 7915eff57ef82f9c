"""What lies in a picture file, read by hand and without a decoder: a file each for the kinds that are accepted.

Imports nothing but errors and Pillow's names of EXIF tags, so that what reads texts may use it as well. Each module has
`header` (what the file claims), `pixels` (the file with nothing left in it but one still picture and its colours, which
is all that a decoder is given) and `texts`. Parts are counted while they are walked over: see facts.py for the limits.

To add a kind: a module of these three functions, a line in KINDS, and its decoder in convert.DECODERS.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from . import avif, bmp, gif, jpeg, png, tiff, webp
from .facts import Header, Limit, Texts
from .tiff import exif_tags

__all__ = ["KINDS", "SHOWN", "SUFFIXES", "Header", "Kind", "Limit", "Texts", "exif_tags", "kind_of"]


class Kind(NamedTuple):
    """title: as people call it. suffixes: of its files' names. largest_px: of a picture that is made smaller."""

    title: str
    suffixes: tuple[str, ...]
    reader: ModuleType
    largest_px: int = 64_000_000


# By Pillow's names. A JPEG can be decoded at a smaller size at once.
KINDS = {
    "PNG": Kind("PNG", (".png", ".apng"), png),
    "JPEG": Kind("JPEG", (".jpg", ".jpeg", ".jfif"), jpeg, 120_000_000),
    "WEBP": Kind("WebP", (".webp",), webp),
    "AVIF": Kind("AVIF", (".avif",), avif),
    "BMP": Kind("BMP", (".bmp",), bmp),
    "TIFF": Kind("TIFF", (".tif", ".tiff"), tiff),
    "GIF": Kind("GIF", (".gif",), gif),
}
SUFFIXES = tuple(suffix for kind in KINDS.values() for suffix in kind.suffixes)
SHOWN = "PNG, JPEG, WebP, AVIF, BMP, TIFF and GIF"


def kind_of(data: bytes) -> str | None:
    """Pillow's name of the kind that a file's first bytes belong to, None for any that is not accepted."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if avif.is_avif(data):
        return "AVIF"
    starts = {png.SIGNATURE: "PNG", jpeg.SIGNATURE: "JPEG", b"BM": "BMP",
              **dict.fromkeys(tiff.ORDERS, "TIFF"), **dict.fromkeys(gif.MAGIC, "GIF")}
    return next((name for start, name in starts.items() if data.startswith(start)), None)
