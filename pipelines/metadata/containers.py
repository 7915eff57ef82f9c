"""Where pictures keep their text: PNG chunks, the EXIF block, XMP, comments.

Texts are read by hand (images/files), so no decoder runs for them; reading is capped and never trusts a file. Writing
replaces whole files.
"""

from __future__ import annotations

import io
import os
import secrets
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin, WebPImagePlugin

from ..errors import RequestError, quoted
from ..images.files import KINDS, SHOWN, Header, Limit, Texts, exif_tags, kind_of
from ..images.slots import SLOTS
from .fields import MAX_TEXT

MAX_SHOWN = 20_000  # of one text chunk
MAX_CHUNKS = 64
MAX_DECODED_PX = 4096 * 4096  # of a picture in whose pixels a text is looked for
MAX_FILE_BYTES = 256 * 2**20
MAX_COMMENT = 16_000_000  # bytes of an EXIF comment; a graph in a WebP file may be long
MAX_HIDDEN = 4_000_000  # bytes of a text hidden in the pixels
MAX_SEGMENT = 65_000  # bytes that one JPEG segment holds

_STEALTH = {b"stealth_pnginfo": False, b"stealth_pngcomp": True}  # mark -> whether the text behind it is packed
_WITH_ALPHA = {"PNG": PngImagePlugin.PngImageFile, "WEBP": WebPImagePlugin.WebPImageFile}
_LOWEST_BIT = bytes(b"01"[value & 1] for value in range(256))


def read(source: Image.Image | str | os.PathLike) -> str | None:
    """Return the generation text of a picture of any kind that is read, or None. Raises RequestError for others."""
    texts = texts_of(source)
    text = texts.get("parameters") or texts.get("UserComment")
    return text[:MAX_TEXT] if text else None


def all_text(source: Image.Image | str | os.PathLike) -> dict[str, str]:
    """Return every text a picture carries, by the name of its chunk or EXIF tag, cut to what can be shown."""
    return {key[:80]: value[:MAX_SHOWN] for key, value in list(texts_of(source).items())[:MAX_CHUNKS]}


def texts_of(source: Image.Image | str | os.PathLike) -> dict[str, str]:
    """Return every text a picture carries, whole. Raises RequestError for files that are no pictures."""
    try:
        named, exif, xmp = _in_memory(source) if isinstance(source, Image.Image) else _in_file(source)
    except Limit as error:
        raise RequestError(f"Picture: {error}", "image") from None
    texts = dict(named)
    if xmp and "XML:com.adobe.xmp" not in texts:
        texts["xmp"] = xmp.decode("utf-8", "replace")
    tags = exif_tags(exif)
    if (comment := tags.pop("UserComment", None)) is not None:
        tags["UserComment"] = _user_comment(comment)
    return {**texts, **tags}


def _in_file(path: str | os.PathLike) -> Texts:
    """What lies in a file, of which no pixel is decoded. Raises RequestError, and Limit for too much of anything."""
    data, header = _opened(path)
    try:
        found = KINDS[header.format].reader.texts(data)
    except Limit:
        raise
    except (struct.error, IndexError, ValueError):
        raise _not_whole() from None
    # Whoever writes settings into a GIF has no other place for them; any other comment is no prompt.
    if header.format == "GIF" and "Seed: " in found.named.get("comment", ""):
        return found._replace(named={"parameters": found.named["comment"]})
    return found


def _opened(path: str | os.PathLike) -> tuple[bytes, Header]:
    try:
        size = os.stat(path).st_size
        if size > MAX_FILE_BYTES:
            raise Limit(f"the file has {size / 2**20:.1f} MB; the limit is {MAX_FILE_BYTES // 2**20} MB.")
        data = Path(path).read_bytes()
        header = KINDS[kind_of(data)].reader.header(data)
    except Limit:
        raise
    except (OSError, KeyError, struct.error, IndexError, ValueError):
        header = None
    if header is None:
        raise _not_whole()
    return data, header


def _not_whole() -> RequestError:
    return RequestError(f"Picture: this is not a whole {SHOWN.replace(' and ', ' or ')} file.", "image")


def _in_memory(image: Image.Image) -> Texts:
    """What Pillow keeps of a picture that it opened. An animation's later frames are not decoded for their texts."""
    texts = image.info
    if isinstance(image, PngImagePlugin.PngImageFile) and not image.is_animated \
            and image.width * image.height <= MAX_DECODED_PX:
        try:
            texts = {**texts, **image.text}  # decodes the pixels, because text may stand behind them
        except ValueError:  # Pillow's caps: 1 MB a chunk, 64 MB a file
            raise Limit("the text in it is larger than 1 MB when unpacked.") from None
        except (OSError, SyntaxError):
            texts = image.info
    named = {str(key): utf8(value) for key, value in texts.items() if isinstance(value, str)}
    if isinstance(texts.get("comment"), bytes):
        named["comment"] = texts["comment"].decode("utf-8", "replace")
    exif, xmp = (texts.get(name) or b"" for name in ("exif", "xmp"))
    return Texts(named, *(part if isinstance(part, bytes) else part.encode() for part in (exif, xmp)))


def utf8(text: str) -> str:
    """Undo Pillow's reading as Latin-1: many programs write UTF-8 where PNG has one byte a character.

    Texts of iTXt chunks are UTF-8 in any case and stay as they are.
    """
    if isinstance(text, PngImagePlugin.iTXt) or text.isascii():
        return str(text)
    try:
        return text.encode("latin-1").decode("utf-8")
    except ValueError:  # it has other characters, or it was Latin-1
        return str(text)


def _user_comment(raw: object) -> str:
    """Decode an EXIF UserComment: eight bytes name the encoding; the byte order of UTF-16 has to be guessed."""
    if not isinstance(raw, bytes):
        return str(raw)
    head, body = raw[:8], raw[8:MAX_COMMENT]
    if head.upper() != b"UNICODE\0":
        body = body if head in (b"ASCII\0\0\0", bytes(8)) else raw[:MAX_COMMENT]
        return body.decode("utf-8", "replace").strip("\0")
    if body[:2] in (b"\xfe\xff", b"\xff\xfe"):
        return body.decode("utf-16", "replace").strip("\0")
    big = body[0::2].count(0) >= body[1::2].count(0)  # the settings are ASCII: their high bytes are 0
    return body.decode("utf-16-be" if big else "utf-16-le", "replace").strip("\0")


def hidden_text(source: Image.Image | str | os.PathLike) -> str:
    """Return the text that NovelAI and others hide in the lowest bits of the alpha channel, or "".

    Column by column: a mark of 15 bytes, the length in bits as 32 bits, and the text, plain or as gzip.
    """
    try:
        alpha = _alpha_of(source) if isinstance(source, Image.Image) else _alpha_in(source)
    except (Limit, RequestError):
        raise
    except (OSError, SyntaxError, ValueError):
        return ""
    mark = _low_bits(alpha, 0, 120)
    if mark not in _STEALTH:
        return ""
    data = _low_bits(alpha, 152, int.from_bytes(_low_bits(alpha, 120, 32), "big"))
    if _STEALTH[mark]:
        try:
            data = zlib.decompressobj(31).decompress(data, MAX_HIDDEN)
        except zlib.error:
            return ""
    return data[:MAX_HIDDEN].decode("utf-8", "replace")


def _alpha_in(path: str | os.PathLike) -> bytes:
    data, header = _opened(path)
    if header.format not in _WITH_ALPHA or header.width * header.height > MAX_DECODED_PX:
        return b""
    pixels = io.BytesIO(KINDS[header.format].reader.pixels(data))
    with SLOTS, _WITH_ALPHA[header.format](pixels) as image:
        return _alpha_of(image)


def _alpha_of(image: Image.Image) -> bytes:
    """The alpha channel column by column; nothing where there is none, or it is too small or too large to look into."""
    if "A" not in image.getbands() or not 152 < image.width * image.height <= MAX_DECODED_PX:
        return b""
    return image.getchannel("A").transpose(Image.Transpose.TRANSPOSE).tobytes()


def _low_bits(data: bytes, start: int, count: int) -> bytes:
    bits = data[start:start + count].translate(_LOWEST_BIT)
    bits = bits[:len(bits) // 8 * 8]
    return int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""


def png_bytes(image: Image.Image, text: str | None) -> bytes:
    """Encode as PNG with the text in a `parameters` chunk; None writes no text at all."""
    return _encoded(image, text, "PNG")


def save_png(image: Image.Image, path: str | os.PathLike, text: str | None) -> None:
    """Write a PNG file so that it is there whole or not at all. Raises OSError."""
    _write(Path(path), png_bytes(image, text))


def save(image: Image.Image, path: str | os.PathLike, text: str | None) -> None:
    """Write a PNG, JPEG or WebP file, by its suffix, whole or not at all. Raises OSError; RequestError by suffix."""
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    suffix = Path(path).suffix.lower()
    if suffix not in formats:
        raise RequestError(f"File type: {quoted(suffix)} is not possible. Known are {', '.join(formats)}.")
    _write(Path(path), _encoded(image, text, formats[suffix]))


def save_animation(pictures: Sequence[Image.Image], durations_ms: Sequence[int], path: str | os.PathLike,
                   text: str | None) -> None:
    """Write an endless .webp or .gif file, whole or not at all. Raises OSError."""
    form = Path(path).suffix.removeprefix(".").upper()
    options: dict[str, Any] = {"lossless": True, "exif": _exif(text)} if form == "WEBP" else {"disposal": 1}
    if form == "GIF" and text is not None:
        options["comment"] = text.encode("utf-8", "replace")
    first, *others = (picture.convert("RGB") for picture in pictures)
    file = io.BytesIO()
    first.save(file, form, save_all=True, append_images=others, duration=list(durations_ms), loop=0, **options)
    _write(Path(path), file.getvalue())


def _encoded(image: Image.Image, text: str | None, file_format: str) -> bytes:
    # Pillow would carry comments of the source file along, so only what changes how pixels look is kept.
    image, info = image.copy(), image.info
    image.info = {key: info[key] for key in ("transparency",) if key in info}
    options: dict[str, Any] = {"icc_profile": info.get("icc_profile")}
    if text is not None:
        text = text.encode("utf-8", "replace").decode()  # lone surrogates have no place in a file
    if file_format == "PNG" and text is not None:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        # As UTF-8, and marked as such: in a chunk for Latin-1 some texts look like UTF-8 that was read wrongly.
        (options["pnginfo"].add_text if text.isascii() else options["pnginfo"].add_itxt)("parameters", text)
    elif file_format != "PNG":
        options |= {"quality": 95, "exif": _exif(text)}
    if file_format == "JPEG" and image.mode not in ("RGB", "L", "CMYK"):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def _exif(text: str | None) -> bytes:
    """The EXIF block that says a text; b"" for none, and for more than one segment of a JPEG can hold."""
    comment = b"UNICODE\0" + (text or "").encode("utf-16-be", "replace")
    if text is None or len(comment) >= MAX_SEGMENT:
        return b""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    return exif.tobytes()


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with open(part, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
