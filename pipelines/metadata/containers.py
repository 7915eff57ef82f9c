"""Where pictures keep their text: PNG chunks, the EXIF block and comments of JPEG and WebP.

Reading is capped and never trusts a file; writing replaces whole files.
"""

from __future__ import annotations

import io
import os
import secrets
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, PngImagePlugin

from ..errors import RequestError
from ..requests import SHOWN_INPUT
from .fields import MAX_TEXT

MAX_SHOWN = 20_000  # of one text chunk
MAX_CHUNKS = 64
MAX_DECODED_PX = 4096 * 4096


def read(source: Image.Image | str | os.PathLike) -> str | None:
    """Return the generation text of a PNG, JPEG or WebP picture, or None. Raises RequestError for other files."""
    texts = _texts(source)
    text = texts.get("parameters") or texts.get("UserComment")
    return text[:MAX_TEXT] if text else None


def all_text(source: Image.Image | str | os.PathLike) -> dict[str, str]:
    """Return every text a picture carries, by the name of its chunk or EXIF tag, cut to what can be shown."""
    return {key[:80]: value[:MAX_SHOWN] for key, value in list(_texts(source).items())[:MAX_CHUNKS]}


def _texts(source: Image.Image | str | os.PathLike) -> dict[str, str]:
    try:
        if not isinstance(source, Image.Image):
            with Image.open(source, formats=("PNG", "JPEG", "WEBP")) as image:
                return _texts(image)
        texts = source.info
        if isinstance(source, PngImagePlugin.PngImageFile) and source.width * source.height <= MAX_DECODED_PX:
            texts = {**texts, **source.text}  # decodes the pixels, because text may stand behind them
    except ValueError:  # Pillow's caps: 1 MB a chunk, 64 MB a file
        raise RequestError("Picture: the text in it is larger than 1 MB when unpacked.", "image") from None
    except Image.DecompressionBombError:
        raise RequestError("Picture: it has too many pixels to be opened.", "image") from None
    except (OSError, SyntaxError):
        if not isinstance(source, Image.Image):
            raise RequestError("Picture: this is not a whole PNG, JPEG or WebP file.", "image") from None
        texts = source.info
    found = {str(key): str(value) for key, value in texts.items() if isinstance(value, str)}
    if isinstance(texts.get("comment"), bytes):
        found["comment"] = texts["comment"].decode("utf-8", "replace")
    return {**found, **_exif_texts(source)}


def _exif_texts(image: Image.Image) -> dict[str, str]:
    if "exif" not in image.info:
        return {}
    try:
        exif = image.getexif()
        tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
    except Exception:  # a damaged block fails in many ways, and the picture is good without it
        return {}
    comment = tags.pop(ExifTags.Base.UserComment, None)
    texts = {str(ExifTags.TAGS.get(tag, tag)): value for tag, value in tags.items() if isinstance(value, str)}
    return texts if comment is None else {**texts, "UserComment": _user_comment(comment)}


def _user_comment(raw: Any) -> str:
    """Decode an EXIF UserComment: eight bytes name the encoding; the byte order of UTF-16 has to be guessed."""
    if not isinstance(raw, bytes):
        return str(raw)
    head, body = raw[:8], raw[8:8 + 2 * MAX_TEXT]
    if head.upper() != b"UNICODE\0":
        return (body if head in (b"ASCII\0\0\0", bytes(8)) else raw).decode("utf-8", "replace").strip("\0")
    if body[:2] in (b"\xfe\xff", b"\xff\xfe"):
        return body.decode("utf-16", "replace").strip("\0")
    big = body[0::2].count(0) >= body[1::2].count(0)  # the settings are ASCII: their high bytes are 0
    return body.decode("utf-16-be" if big else "utf-16-le", "replace").strip("\0")


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
        raise RequestError(f"File type: {suffix[:SHOWN_INPUT]!r} is not possible. Known are {', '.join(formats)}.")
    _write(Path(path), _encoded(image, text, formats[suffix]))


def _encoded(image: Image.Image, text: str | None, file_format: str) -> bytes:
    # Pillow would carry comments of the source file along, so only what changes how pixels look is kept.
    image, info = image.copy(), image.info
    image.info = {key: info[key] for key in ("transparency",) if key in info}
    options: dict[str, Any] = {"icc_profile": info.get("icc_profile")}
    if text is not None:
        text = text.encode("utf-8", "replace").decode()  # lone surrogates have no place in a file
    if file_format == "PNG" and text is not None:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("parameters", text)
    elif file_format != "PNG":
        options |= {"quality": 95}
        comment = b"UNICODE\0" + (text or "").encode("utf-16-be")
        if text is not None and len(comment) < 65_000:  # what one JPEG segment holds
            exif = Image.Exif()
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
            options["exif"] = exif
    if file_format == "JPEG" and image.mode not in ("RGB", "L", "CMYK"):
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


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
