"""The one conversion every picture goes through before the engine sees it.

Header and size checks before a decoder runs; of the file, a decoder sees one still picture and its colours; EXIF
turn; ICC profile or gamma to sRGB; palette, grey, CMYK and 16 bit to 8-bit RGB, or RGBA when something is transparent;
what is larger than the engine takes is made smaller. Profile and texts are left behind.

What the header's counts bound is decoded here, a few pictures at a time (slots.py); all else in a process that can be
killed (isolated.py).
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ..errors import RequestError
from ..requests import Inpaint, fields_of
from .colours import eight_bit, to_srgb
from .files import KINDS, SHOWN, Header, Limit
from .header import kind_of, read_header
from .isolated import decode_apart
from .slots import SLOTS

MAX_FILE_BYTES = 20 * 1024 * 1024
MAX_PHOTO_BYTES = 100 * 1024 * 1024  # of a picture to learn from
MAX_PIXELS = 4096 * 4096
MAX_SIDE = 16384
MAX_WORK_PX = 12 * MAX_PIXELS  # pixels times scans that are decoded in this process
# Opened by their own decoders: Image.open refuses what is larger than a page may send, and asks all that are known.
DECODERS = {"PNG": PngImageFile, "JPEG": JpegImageFile, "WEBP": WebPImageFile, "AVIF": AvifImageFile,
            "BMP": BmpImageFile, "TIFF": TiffImageFile, "GIF": GifImageFile}

FIELDS = (*fields_of(Inpaint, kind="picture"), *fields_of(Inpaint, kind="mask"))
TITLES = {name: Inpaint.model_fields[name].title for name in FIELDS}
FURTHER = {"TIFF": "The file holds several pictures; only the first is used."}
ANIMATED = "The picture is animated; only its first frame is used."
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Plain = tuple[Image.Image, tuple[str, ...]]


def convert(source: bytes | Path | Image.Image, field: str = "image") -> Plain:
    """Read a picture and return it as plain 8-bit RGB or RGBA, with notices about what was changed or left out.

    RGBA only when some pixel is not opaque; the colours under alpha 0 stay as decoded. field: the request's field
    the picture is for. Raises RequestError for other formats, damaged files and pictures beyond the limits.
    """
    with SLOTS:
        return convert_in_slot(source, field)


def convert_photo(path: Path, *, apart: bool = True) -> Plain:
    """Read a picture to learn from as `convert` does, of up to MAX_PHOTO_BYTES, and halve it until it fits.

    Halves are quick to decode, and of what is learned much less is seen. apart: in a process of its own where the
    header does not bound the work; False where this one may be killed.
    """
    with SLOTS:
        return convert_in_slot(path, "image", MAX_PHOTO_BYTES, apart, halve=True)


def convert_in_slot(source: bytes | Path | Image.Image, field: str, limit: int = MAX_FILE_BYTES,
                    apart: bool = True, halve: bool = False) -> Plain:
    """Convert, as one who holds a slot already."""
    title = TITLES.get(field, "Picture")
    try:
        if isinstance(source, Image.Image):
            check_size(*source.size, field)
            return _plain(source, None, source.size)
        data = _read(source, title, field, limit)
        header = _checked_header(data, title, field)
        if is_bounded(header) or not apart:
            return decode(data, header, halve)
        return decode_apart(data, title, field, halve)
    except Limit as error:
        raise RequestError(f"{title}: {error}", field) from None
    except RequestError as error:
        raise RequestError(f"{title}: {str(error).removeprefix('Picture: ').removeprefix(f'{title}: ')}",
                           field) from None
    except MemoryError:
        raise
    except Exception as error:  # decoders raise many kinds for damaged files: OSError, SyntaxError, struct.error ...
        raise RequestError(f"{title}: the file is damaged or incomplete and cannot be read.", field) from error


def is_bounded(header: Header) -> bool:
    """Tell whether the header's numbers bound what a decoder does, and that is little enough for this process."""
    pixels = header.width * header.height
    largest = MAX_WORK_PX if header.format == "JPEG" else MAX_PIXELS  # a JPEG is decoded at the smaller size at once
    return header.is_bounded and pixels * header.scans <= MAX_WORK_PX and pixels <= largest


def decode(data: bytes, header: Header, halve: bool = False) -> Plain:
    """Decode a checked file; halve: as often as it must be. Raises whatever a decoder raises for a damaged one."""
    kind = KINDS[header.format]
    with DECODERS[header.format](io.BytesIO(kind.reader.pixels(data))) as image:
        if image.width * image.height > header.width * header.height:  # a second header, to get past the size check
            raise ValueError(f"two sizes in one file: {image.size} and {header}")
        original, size = image.size, (halved if halve else fitting)(*image.size)
        if size != original:
            image.draft(None, size)  # a JPEG decodes to a half, quarter or eighth that is not smaller
        plain, notices = _plain(image, header, size)
    if size == original:
        return plain, notices
    smaller = f"The picture has {original[0]} x {original[1]} px; it is used at {size[0]} x {size[1]} px."
    return plain, (smaller, *notices)


def fitting(width: int, height: int) -> tuple[int, int]:
    """The largest size of the same shape that the engine takes; the picture's own where it does."""
    scale = min(1.0, (MAX_PIXELS / (width * height)) ** 0.5, MAX_SIDE / max(width, height))
    if scale == 1:
        return width, height
    return max(1, int(width * scale)), max(1, int(height * scale))


def halved(width: int, height: int) -> tuple[int, int]:
    """The first half, quarter, eighth ... of a size that the engine takes, rounded up."""
    factor = 1
    while fitting(-(-width // factor), -(-height // factor)) != (-(-width // factor), -(-height // factor)):
        factor *= 2
    return -(-width // factor), -(-height // factor)


def check_size(width: int, height: int, field: str = "image") -> None:
    """Raise RequestError unless the sides and the number of pixels are what the engine takes."""
    title = TITLES.get(field, "Extended picture" if field.startswith("outpaint") else "Picture")
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise RequestError(f"{title}: {width} x {height} px is not possible; a side may be 1 to {MAX_SIDE} px.", field)
    if width * height > MAX_PIXELS:
        raise RequestError(f"{title}: {width} x {height} px is {width * height / 1e6:.1f} megapixels; "
                           f"the limit is {MAX_PIXELS / 1e6:.1f} megapixels.", field)


def flatten(image: Image.Image, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """Lay a picture on a plain background: RGB without alpha."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    canvas = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")


def lifted(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """Take a picture off the white that `flatten` laid it on: RGBA, which looks on white as `image` does.

    image: RGB. alpha: L, of its size.
    """
    share = np.maximum(np.asarray(alpha, np.float32), 1)[..., None] / 255
    colours = 255 - (255 - np.asarray(image, np.float32)) / share
    made = Image.fromarray(colours.clip(0, 255).round().astype(np.uint8))
    made.putalpha(alpha)
    return made


def _read(source: bytes | Path, title: str, field: str, limit: int) -> bytes:
    try:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if size > limit:
            raise RequestError(f"{title}: the file has {size / 2**20:.1f} MB; the limit is {limit // 2**20} MB.", field)
        return source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise RequestError(f"{title}: the file cannot be opened.", field) from error


def _checked_header(data: bytes, title: str, field: str) -> Header:
    header = read_header(data)
    if header is None:
        raise RequestError(f"{title}: {_what_it_is(data)}", field)
    width, height, most = header.width, header.height, KINDS[header.format].largest_px
    if width < 1 or height < 1:
        check_size(width, height, field)
    if width * height > most:
        raise RequestError(f"{title}: {width} x {height} px are too many; the limit for a {KINDS[header.format].title} "
                           f"file is {most // 10**6} megapixels.", field)
    return header


def _what_it_is(data: bytes) -> str:
    kind = kind_of(data)
    if kind in {each.title for each in KINDS.values()}:
        return f"the header of this {kind} file is damaged or incomplete."
    wanted = f"{SHOWN} can be read."
    return f"this is a {kind} file. {wanted}" if kind else f"this is not a picture file. {wanted}"


def _plain(image: Image.Image, header: Header | None, size: tuple[int, int]) -> Plain:
    """Decode and convert. size: of the result before it is turned upright. header: None for a picture in memory."""
    notices = []
    if header is not None and header.frames > 1:
        notices.append(FURTHER.get(header.format, ANIMATED))
    image.load()
    colours, unused = to_srgb(eight_bit(image, 8 if header is None else header.depth), image.info, header)
    has_alpha = "A" in colours.getbands() and colours.getchannel("A").getextrema()[0] < 255
    plain = colours.convert("RGBA" if has_alpha else "RGB")
    if plain.size != size:
        plain = plain.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    turn = TURNS.get(_orientation(image, header))
    plain = plain.copy() if turn is None else plain.transpose(turn)
    plain.info = {}  # Pillow would write profile and transparency from here into the next file
    return plain, (*notices, *unused)


def _orientation(image: Image.Image, header: Header | None) -> int:
    """Which way up the pixels are. TIFF's decoder has turned them itself; AVIF says it in boxes that Pillow reads."""
    if header is not None and header.format != "AVIF":
        return 1 if header.format == "TIFF" else header.orientation
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF raises many kinds; the pixels are fine without it
        return 1
