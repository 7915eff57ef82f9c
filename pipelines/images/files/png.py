"""PNG files: chunks, each with length, name, data and check sum. PNG 3 (W3C, 2025), animations included."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from .facts import (
    MAX_PARTS,
    MAX_PIXEL_PARTS,
    MAX_TEXT_BYTES,
    MAX_UNPACKED,
    Header,
    Limit,
    Texts,
    counted,
    utf8_or_latin1,
)
from .tiff import orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
OF_PIXELS = (b"IDAT", b"fdAT", b"fcTL")
# What a decoder needs for the still picture and its colours; texts, EXIF data and animation are read by hand.
KEPT_ONCE = (b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"IEND")
KEPT = (b"IHDR", b"IDAT")


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Walk over (name, start of the data, its end), to the end of the picture or of what is there.

    Raises Limit for too many.
    """
    at, parts, of_pixels = len(SIGNATURE), 0, 0
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        if name in OF_PIXELS:
            of_pixels = counted(of_pixels + 1, MAX_PIXEL_PARTS, "chunks of pixels")
        else:
            parts = counted(parts + 1, MAX_PARTS, "chunks beside its pixels")
        yield name, at + 8, min(at + 8 + length, len(data))
        if name == b"IEND":
            return
        at += 12 + length


def header(data: bytes) -> Header | None:
    """Read size, depth, orientation, and whether there is an animation or a profile; None when IHDR is not first."""
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", data, 16)
    places = {name: (start, end) for name, start, end in chunks(data)}
    frames, cicp, turn = 1, None, 1
    if b"acTL" in places:
        frames = struct.unpack_from(">I", data, places[b"acTL"][0])[0]
    if b"cICP" in places:
        cicp = tuple(data[places[b"cICP"][0]:][:2])
    if b"eXIf" in places:
        turn = orientation(data[slice(*places[b"eXIf"])])
    return Header("PNG", width, height, frames=frames, depth=data[24], has_profile=b"iCCP" in places,
                  orientation=turn, cicp=cicp)


def pixels(data: bytes) -> bytes:
    """Return the file with nothing in it but the still picture and its colours."""
    kept, seen = [data[:len(SIGNATURE)]], set()
    for name, start, end in chunks(data):
        once = name in KEPT_ONCE and name not in seen
        if name not in KEPT and not once:
            continue
        seen.add(name)
        if name != b"iCCP" or _unpacked(data[start:end].partition(b"\0")[2][1:]) is not None:
            kept.append(data[start - 8:end + 4])
    return b"".join(kept)


def texts(data: bytes) -> Texts:
    """Read the chunks tEXt, zTXt, iTXt and eXIf. Raises Limit for more text than a picture may hold."""
    named, exif, total = {}, b"", 0
    for name, start, end in chunks(data):
        if name == b"eXIf":
            exif = data[start:end]
        if name not in READERS:
            continue
        key, text = READERS[name](data[start:end])
        total += len(text)
        if total > MAX_TEXT_BYTES:
            raise Limit(f"the texts in it are larger than {MAX_TEXT_BYTES // 10**6} MB.")
        if key:
            named[key.decode("latin-1")] = utf8_or_latin1(text)
    xmp = named.get("XML:com.adobe.xmp", "").encode()
    return Texts(named, exif, xmp)


def _plain(chunk: bytes) -> tuple[bytes, bytes]:
    key, _, text = chunk.partition(b"\0")
    return key, text


def _packed(chunk: bytes) -> tuple[bytes, bytes]:
    key, _, rest = chunk.partition(b"\0")
    return key, _text_of(rest[1:])


def _international(chunk: bytes) -> tuple[bytes, bytes]:
    key, _, rest = chunk.partition(b"\0")
    is_packed, rest = rest[:1] == b"\1", rest[2:]
    text = rest.partition(b"\0")[2].partition(b"\0")[2]  # behind the language and the translated key
    return key, _text_of(text) if is_packed else text


READERS = {b"tEXt": _plain, b"zTXt": _packed, b"iTXt": _international}


def _text_of(packed: bytes) -> bytes:
    text = _unpacked(packed)
    if text is None:
        raise Limit("the text in it is larger than 1 MB when unpacked.")
    return text


def _unpacked(packed: bytes) -> bytes | None:
    """Unpack at most MAX_UNPACKED bytes: None for more, b"" for what is damaged."""
    try:
        data = zlib.decompressobj().decompress(packed, MAX_UNPACKED + 1)
    except zlib.error:
        return b""
    return data if len(data) <= MAX_UNPACKED else None
