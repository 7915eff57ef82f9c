"""Pictures with the texts of other tools in them, made as those tools make them."""

import gzip
import json

from PIL import ExifTags, Image, PngImagePlugin


def png(path, chunks: dict[str, str], mode="RGB"):
    """A PNG with text chunks; values that are no text are written as JSON."""
    info = PngImagePlugin.PngInfo()
    for key, value in chunks.items():
        info.add_text(key, value if isinstance(value, str) else json.dumps(value))
    Image.new(mode, (8, 6), "red").save(path, "PNG", pnginfo=info)
    return path


def with_exif(path, tags: dict[int, str], inner: dict[int, bytes] | None = None):
    """A JPEG or WebP with tags in the first directory, and in the one of the camera."""
    exif = Image.Exif()
    for tag, value in tags.items():
        exif[tag] = value
    for tag, value in (inner or {}).items():
        exif.get_ifd(ExifTags.IFD.Exif)[tag] = value
    Image.new("RGB", (8, 6), "red").save(path, exif=exif)
    return path


def stealth(path, text: str, *, packed=True, size=(64, 96)):
    """A PNG with a text in the lowest bits of its alpha channel, column by column."""
    data = gzip.compress(text.encode()) if packed else text.encode()
    data = (b"stealth_pngcomp" if packed else b"stealth_pnginfo") + (len(data) * 8).to_bytes(4, "big") + data
    bits = [byte >> shift & 1 for byte in data for shift in range(7, -1, -1)]
    image = Image.new("RGBA", size, (200, 10, 10, 254))
    pixels = image.load()
    assert len(bits) <= size[0] * size[1]
    for at, bit in enumerate(bits):
        x, y = divmod(at, size[1])
        pixels[x, y] = (200, 10, 10, 254 | bit)
    image.save(path, "PNG")
    return path
