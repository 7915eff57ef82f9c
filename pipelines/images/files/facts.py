"""What a picture file says of itself, and the limits of what it may be made of."""

from __future__ import annotations

from typing import NamedTuple

MAX_PARTS = 1_000  # chunks, segments or tags beside the pixels; programs write some tens
MAX_PIXEL_PARTS = 65_536  # chunks and blocks that hold pixels; 8 kB each make 512 MB
MAX_SCANS = 100  # of a progressive JPEG; encoders write about ten
MAX_TEXT_BYTES = 64_000_000  # of all texts of a file together
MAX_UNPACKED = 1 << 20  # bytes of one compressed text or profile


class Limit(ValueError):
    """A file made of more parts than any program writes. The text is a sentence without the field: "it has ..."."""


class Header(NamedTuple):
    """What the bytes before the pixels claim; nothing was decoded.

    format: Pillow's name, such as PNG. width, height: px. scans: how often a decoder goes over all pixels. frames: 1,
    or more where further pictures follow the first. depth: bits of a sample. has_profile: there is an ICC profile.
    orientation: of EXIF, 1 to 8. cicp: primaries and transfer of the colours as ITU-T H.273 numbers them. is_bounded:
    a decoder does a fixed amount of work for a pixel and a scan.
    """

    format: str
    width: int
    height: int
    scans: int = 1
    frames: int = 1
    depth: int = 8
    has_profile: bool = False
    orientation: int = 1
    cicp: tuple[int, int] | None = None
    is_bounded: bool = True
    is_cmyk: bool = False


class Texts(NamedTuple):
    """named: texts by the name of their chunk or tag. exif: the EXIF block, a small TIFF file. xmp: of Adobe."""

    named: dict[str, str]
    exif: bytes = b""
    xmp: bytes = b""


def counted(number: int, limit: int, what: str) -> int:
    """Return the number. Raises Limit when it is above the limit."""
    if number > limit:
        raise Limit(f"it has more than {limit:,} {what}, which no program writes.")
    return number


def utf8_or_latin1(data: bytes) -> str:
    """Decode a text whose encoding the format says is Latin-1, and which many programs write as UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
