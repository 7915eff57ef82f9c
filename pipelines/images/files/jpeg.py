"""JPEG files: segments, each with a marker and its length, and scans of coded pixels. ITU-T T.81, annex B."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from .facts import MAX_PARTS, MAX_SCANS, Header, Texts, counted, utf8_or_latin1
from .tiff import EXIF_MARK, orientation

SIGNATURE = b"\xff\xd8\xff"
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, any coding
BARE = frozenset(range(0xD0, 0xD9)) | {0x01}  # markers without a length
END, SCAN, EXIF, PROFILE, COMMENT = 0xD9, 0xDA, 0xE1, 0xE2, 0xFE
APPLICATION = frozenset(range(0xE0, 0xF0)) | {COMMENT}  # what programs add
XMP_MARK, PROFILE_MARK = b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
# Within coded pixels a marker is 0xFF and another byte than 0 (which stands for 0xFF itself) or a restart.
MARKER = re.compile(rb"\xff(?=[^\x00\xd0-\xd7\xff])")
KEPT = (0xE0, 0xEE)  # of these: JFIF, and Adobe's word on the colours
NO_FILL = re.compile(rb"[^\xff]")


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Walk over (marker, start of what is behind its length, end), to the end of the picture or of what is there.

    A scan ends with its coded pixels. Raises Limit for too many; ends early where no marker follows.
    """
    at, parts, scans = 2, 0, 0
    while at + 1 < len(data) and data[at] == 0xFF:
        at = _behind_fill(data, at)
        marker = data[at + 1]
        if marker == END:
            yield marker, at + 2, at + 2
            return
        parts = counted(parts + 1, MAX_PARTS, "segments")
        if marker in BARE:
            at += 2
            continue
        end = at + 2 + max(struct.unpack_from(">H", data, at + 2)[0], 2)
        if marker == SCAN:
            scans = counted(scans + 1, MAX_SCANS, "scans")
            following = MARKER.search(data, end)
            end = following.start() if following else len(data)
        yield marker, at + 4, min(end, len(data))
        at = end


def _behind_fill(data: bytes, at: int) -> int:
    """Where the marker begins: any number of bytes 0xFF may stand before it. Raises IndexError where none comes."""
    code = NO_FILL.search(data, at)
    if code is None:
        raise IndexError
    return code.start() - 1


def header(data: bytes) -> Header | None:
    """Read size, number of scans, orientation, and whether there is a profile; None when no frame is announced."""
    size, scans, turn, has_profile = None, 0, 1, False
    for marker, start, end in segments(data):
        if marker in FRAMES and size is None:
            size = struct.unpack_from(">BHHB", data, start)
        elif marker == SCAN:
            scans += 1
        elif marker == EXIF and data[start:start + 6] == EXIF_MARK:
            turn = orientation(data[start:end])
        elif marker == PROFILE:
            has_profile |= data[start:start + len(PROFILE_MARK)] == PROFILE_MARK
    if size is None:
        return None
    depth, height, width, channels = size
    return Header("JPEG", width, height, max(1, scans), depth=depth, has_profile=has_profile, orientation=turn,
                  is_cmyk=channels == 4)


def pixels(data: bytes) -> bytes:
    """Return the file with nothing in it but the first picture and its colours."""
    kept = [data[:2]]
    for marker, start, end in segments(data):
        is_profile = marker == PROFILE and data[start:start + len(PROFILE_MARK)] == PROFILE_MARK
        if marker in KEPT or is_profile or marker not in APPLICATION:
            kept.append(data[start - (2 if marker == END else 4):end])
    return b"".join(kept)


def texts(data: bytes) -> Texts:
    """Read the last comment, the EXIF data, and XMP."""
    named, exif, xmp = {}, [], b""
    for marker, start, end in segments(data):
        if marker == COMMENT:
            named["comment"] = utf8_or_latin1(data[start:end])
        elif marker == EXIF and data[start:start + 6] == EXIF_MARK:
            exif.append(data[start + 6:end])
        elif marker == EXIF and data[start:start + len(XMP_MARK)] == XMP_MARK:
            xmp = data[start + len(XMP_MARK):end]
    return Texts(named, b"".join(exif), xmp)
