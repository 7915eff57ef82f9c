"""TIFF files, and the EXIF block of all others, which is one: directories of tags, each with its value or its place.

TIFF 6.0 (Adobe, 1992) and BigTIFF. Values are cut from the bytes once and counted: tags may all point at one place.
"""

from __future__ import annotations

import struct
from contextlib import suppress

from PIL import ExifTags

from .facts import MAX_PARTS, Header, Limit, Texts, counted, utf8_or_latin1

ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}  # types of numbers without a sign -> their letter in struct
ASCII, UNDEFINED = 2, 7
SUBFILE, WIDTH, HEIGHT, DEPTH, PHOTOMETRIC, ORIENTATION = 254, 256, 257, 258, 262, 274
XMP, EXIF, PROFILE = 700, 34665, 34675
SEPARATED = 5  # of the photometric kinds: inks
DNG_VERSION = 50706
SHARED_BYTES = 1 << 16  # that several tags may share
EXIF_MARK = b"Exif\0\0"


class Directory(dict[int, tuple[int, bytes]]):
    """Tag -> (type, raw value). order: of the bytes, as struct writes it. following: place of the next, 0 for none."""

    order = "<"
    following = 0

    def number(self, tag: int, default: int = 0) -> int:
        """The first number of a tag's value, or the default where there is none."""
        kind, raw = self.get(tag, (0, b""))
        if kind not in WHOLE or len(raw) < BYTES[kind]:
            return default
        return struct.unpack_from(self.order + WHOLE[kind], raw)[0]


def directory(data: bytes, place: int | None = None) -> Directory:
    """Read one directory, the first unless its place is given.

    Raises struct.error or ValueError for a damaged one, Limit for too many tags or values larger than the file.
    """
    made = Directory()
    order = made.order = ORDERS.get(data[:4], "")
    if not order:
        raise ValueError("not a TIFF file")
    is_big = data[2:4] in (b"+\0", b"\0+")
    word, entry, count_at, head = ("Q", "HHQ8s", 8, 20) if is_big else ("I", "HHI4s", 4, 12)
    count_word, inline = ("Q", 8) if is_big else ("H", 4)
    if place is None:
        (place,) = struct.unpack_from(order + word, data, count_at)
    (count,) = struct.unpack_from(order + count_word, data, place)
    counted(count, MAX_PARTS, "tags")
    start, total = place + struct.calcsize(order + count_word), 0
    for number in range(count):
        tag, kind, length, value = struct.unpack_from(order + entry, data, start + number * head)
        size = BYTES.get(kind, 0) * length
        if size > inline:
            (offset,) = struct.unpack(order + word, value)
            total += size
            if total > len(data) + SHARED_BYTES:
                raise Limit("its tags hold more than the whole file.")
            value = data[offset:offset + size]
        made[tag] = (kind, value[:size])
    with suppress(struct.error):  # some writers end the file here
        (made.following,) = struct.unpack_from(order + word, data, start + count * head)
    return made


def header(data: bytes) -> Header | None:
    """Read the first directory; None for a camera's raw file, whose first picture is a small preview."""
    first = directory(data)
    if is_raw(first, data):
        return None
    width, height = first.number(WIDTH), first.number(HEIGHT)
    return Header("TIFF", width, height, frames=2 if first.following else 1, depth=first.number(DEPTH, 1),
                  has_profile=PROFILE in first, orientation=first.number(ORIENTATION, 1),
                  is_bounded=False, is_cmyk=first.number(PHOTOMETRIC) == SEPARATED)


def is_raw(first: Directory, data: bytes) -> bool:
    """Tell whether the file is a camera's raw picture, which has the form of a TIFF file."""
    return DNG_VERSION in first or bool(first.number(SUBFILE) & 1) or data[8:10] == b"CR"


def pixels(data: bytes) -> bytes:
    """Return the file as it is: its parts are found by their places."""
    return data


def texts(data: bytes) -> Texts:
    """Return the XMP block, and the file itself as its EXIF block."""
    return Texts({}, data, directory(data).get(XMP, (0, b""))[1])


def exif_tags(block: bytes) -> dict[str, str | bytes]:
    """Read the texts of an EXIF block by name; UserComment comes as bytes. Nothing for a damaged block."""
    block = block.removeprefix(EXIF_MARK)
    found: dict[str, str | bytes] = {}
    try:
        first = directory(block)
        place = first.number(EXIF)
        for tags in (first, directory(block, place) if place else {}):
            for tag, (kind, raw) in tags.items():
                name = str(ExifTags.TAGS.get(tag, tag))
                if kind == ASCII:
                    found[name] = utf8_or_latin1(raw.rstrip(b"\0"))
                elif tag == ExifTags.Base.UserComment:
                    found[name] = raw
    except (struct.error, ValueError):
        pass
    return found


def orientation(block: bytes) -> int:
    """Read the orientation of an EXIF block; 1 for a damaged one, and where it says nothing."""
    try:
        return directory(block.removeprefix(EXIF_MARK)).number(ORIENTATION, 1)
    except (struct.error, ValueError):
        return 1
