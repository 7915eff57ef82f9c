"""The one conversion every picture goes through before the engine sees it.

Header and size checks before a decoder runs; first frame of an animation; EXIF turn; ICC profile to sRGB; palette,
grey, CMYK and 16 bit to 8-bit RGB, or RGBA when something is transparent. Profile and texts are left behind.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ..errors import RequestError
from .header import Header, kind_of, read_header

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_FILE_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 4096 * 4096
MAX_SIDE = 16384
# Photos to learn from are made smaller while they are decoded, which takes memory for the smaller one alone (JPEG) or
# for a moment for all of it (the others).
MAX_PHOTO_BYTES = 100 * 1024 * 1024
MAX_PHOTO_PIXELS = {"JPEG": 120_000_000, "PNG": 64_000_000, "WEBP": 64_000_000}

DECODERS = {"JPEG": JpegImageFile, "PNG": PngImageFile, "WEBP": WebPImageFile}

TITLES = {"image": "Picture", "mask": "Mask"}
PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC colour space -> the mode it describes
ORIENTATION_TAG = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def convert(source: bytes | Path | Image.Image, field: str = "image") -> tuple[Image.Image, tuple[str, ...]]:
    """Read a picture and return it as plain 8-bit RGB or RGBA, with notices about what was left out.

    RGBA only when some pixel is not opaque; the colours under alpha 0 stay as decoded. field: the request's field
    the picture is for. Raises RequestError for other formats, damaged files and pictures beyond the limits.
    """
    title = TITLES.get(field, "Picture")
    try:
        if isinstance(source, Image.Image):
            check_size(*source.size, field)
            return _plain(source)
        data = _read(source, title, field)
        return _checked(data, read_header(data), title, field)
    except (RequestError, MemoryError):
        raise
    except Exception as error:  # decoders raise many kinds for damaged files: OSError, SyntaxError, struct.error ...
        raise RequestError(f"{title}: the file is damaged or incomplete and cannot be read.", field) from error


def convert_photo(path: Path) -> tuple[Image.Image, tuple[str, ...]]:
    """Read a picture as `convert` does, but take a modern camera's too: made smaller by 2, 4 or 8 until it fits.

    Raises RequestError for other formats, damaged files and pictures beyond the limits.
    """
    try:
        data = _read(path, "Picture", "image", MAX_PHOTO_BYTES)
        header = read_header(data)
        if header is None or header.width * header.height <= MAX_PIXELS:
            return _checked(data, header, "Picture", "image")
        most = MAX_PHOTO_PIXELS[header.format]
        if header.width * header.height > most:
            raise RequestError(f"Picture: {header.width} x {header.height} px are too many; the limit for a "
                               f"{header.format} file is {most // 10**6} megapixels.", "image")
        factor = next(factor for factor in (2, 4, 8) if header.width * header.height <= MAX_PIXELS * factor**2)
        # Opened by its own decoder: Image.open refuses what is larger than a page may send.
        with DECODERS[header.format](io.BytesIO(data)) as image:
            if image.size != (header.width, header.height):
                raise ValueError(f"two sizes in one file: {image.size} and {header}")
            image.draft(None, tuple(-(-side // factor) for side in image.size))  # a JPEG decodes to the smaller size
            if image.width * image.height <= MAX_PIXELS:
                return _plain(image)
            plain, notices = _plain(image)
            return plain.reduce(factor), notices
    except (RequestError, MemoryError):
        raise
    except Exception as error:  # decoders raise many kinds for damaged files
        raise RequestError("Picture: the file is damaged or incomplete and cannot be read.", "image") from error


def check_size(width: int, height: int, field: str = "image") -> None:
    """Raise RequestError unless the sides and the number of pixels are within the limits."""
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


def _read(source: bytes | Path, title: str, field: str, limit: int = MAX_FILE_BYTES) -> bytes:
    try:
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        if size > limit:
            raise RequestError(f"{title}: the file has {size / 2**20:.1f} MB; the limit is {limit // 2**20} MB.", field)
        return source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise RequestError(f"{title}: the file cannot be opened.", field) from error


def _checked(data: bytes, header: Header | None, title: str, field: str) -> tuple[Image.Image, tuple[str, ...]]:
    if header is None:
        raise RequestError(f"{title}: {_what_it_is(data)}", field)
    check_size(header.width, header.height, field)
    with _open(data, header) as image:
        return _plain(image)


def _what_it_is(data: bytes) -> str:
    kind = kind_of(data)
    if kind in ("PNG", "JPEG", "WebP"):
        return f"the header of this {kind} file is damaged or incomplete."
    wanted = "PNG, JPEG and WebP can be read."
    return f"this is a {kind} file. {wanted}" if kind else f"this is not a picture file. {wanted}"


def _open(data: bytes, header: Header) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    if image.size != (header.width, header.height):  # a second header in the file, to get past the size check
        raise ValueError(f"two sizes in one file: {image.size} and {header}")
    return image


def _plain(image: Image.Image) -> tuple[Image.Image, tuple[str, ...]]:
    notices = []
    # MPO: a JPEG with further pictures behind the first, as phones write it; that is no animation.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        image.seek(0)
        notices.append("The picture is animated; only its first frame is used.")
    image.load()
    colours = _eight_bit(image)
    profile = image.info.get("icc_profile")
    if profile:
        try:
            colours = _to_srgb(colours, profile)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            notices.append("The picture's colour profile cannot be used and was left out.")
    has_alpha = "A" in colours.getbands() and colours.getchannel("A").getextrema()[0] < 255
    plain = colours.convert("RGBA" if has_alpha else "RGB")
    turn = TURNS.get(_orientation(image))
    plain = plain.transpose(turn) if turn is not None else plain.copy()
    plain.info = {}  # Pillow would write profile and transparency from here into the next file
    return plain, tuple(notices)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Bring any mode to 8-bit L, LA, RGB, RGBA or CMYK; 16 bit is scaled, not clipped."""
    mode = image.mode
    if mode.startswith("I"):
        return _from_sixteen_bit(image)
    if mode == "F":
        raise ValueError("floating-point pixels have no defined white")
    if image.has_transparency_data and mode not in ("LA", "RGBA"):
        return _without_deep_key(image).convert("LA" if mode in ("1", "L", "La") else "RGBA")
    if mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        return image
    return image.convert("L" if mode == "1" else "RGB")


def _from_sixteen_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64).clip(0, 65535)
    grey = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _without_deep_key(image: Image.Image) -> Image.Image:
    """Scale the transparent colour of a 16-bit RGB file, which Pillow leaves as it is while it halves the pixels."""
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    return image


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Apply an ICC profile; raises ValueError when it describes other channels than the picture has."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = PROFILE_MODES.get(source.profile.xcolor_space.strip())
    channels = image.mode.removesuffix("A")
    if mode is None or (channels != mode and (channels, mode) != ("L", "RGB")):
        raise ValueError(f"a profile for {source.profile.xcolor_space} on {image.mode}")
    colours = ImageCms.profileToProfile(image.convert(mode), source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    if image.mode.endswith("A"):
        colours.putalpha(image.getchannel("A"))
    return colours


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF raises many kinds; the pixels are fine without it
        return 1
