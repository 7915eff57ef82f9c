"""Colours of any file as 8-bit sRGB: depth, palette, ICC profile, and the numbers that PNG and AVIF give instead.

Which of these counts, where several are there, is PNG 3's order: cICP, iCCP, sRGB, gAMA with cHRM.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from ..errors import RequestError
from .files import Header

PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # ICC colour space -> the mode it describes
UNUSABLE = "The picture's colour profile cannot be used and was left out."
# White, red, green and blue as (x, y) one after the other, the order of cHRM, and H.273's number of each.
SRGB = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
DISPLAY_P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
BT2020 = (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)
PRIMARIES = {1: SRGB, 2: SRGB, 9: BT2020, 12: DISPLAY_P3}
# Exponents by H.273's number of the transfer: 0 is sRGB's own curve, which BT.601 and 709 pictures are shown with too.
TRANSFERS = {1: 0.0, 2: 0.0, 4: 1 / 2.2, 5: 1 / 2.8, 6: 0.0, 8: 1.0, 13: 0.0, 14: 0.0, 15: 0.0}
NEAR_SRGB = 0.05  # how far gamma x 2.2 may be from 1: libpng's own threshold (PNG_GAMMA_THRESHOLD)
NEAR_PRIMARIES = 0.002  # writers round
BAND = 1 << 20  # pixels that are worked on at once: floating-point numbers take 12 bytes each
FINE = 1 << 16  # levels of linear light


def eight_bit(image: Image.Image, depth: int = 8) -> Image.Image:
    """Bring any mode to 8-bit L, LA, RGB, RGBA or CMYK; 16 bit is scaled, not clipped.

    depth: bits of a sample in the file. Raises RequestError for floating-point pixels.
    """
    mode = image.mode
    if mode.startswith("I"):
        return _from_sixteen_bit(image)
    if mode == "F":
        raise RequestError("Picture: its pixels are floating-point numbers, of which none is defined as white. Save it "
                           "with 8 or 16 bits a colour.", "image")
    if image.has_transparency_data and mode not in ("LA", "RGBA"):
        keyed = _with_scaled_key(image, depth)
        return keyed.convert("LA" if mode in ("1", "L", "La") else "RGBA")
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


def _with_scaled_key(image: Image.Image, depth: int) -> Image.Image:
    """Scale the transparent colour as Pillow scales the pixels: it leaves the key in the file's own depth."""
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        key = tuple(value >> 8 for value in key)
    elif isinstance(key, int) and image.mode in ("1", "L") and depth < 8:
        key = (key & (1 << depth) - 1) * 255 // ((1 << depth) - 1)
        image = image.convert("L")
    else:
        return image
    image = image.copy()
    image.info["transparency"] = key
    return image


def to_srgb(colours: Image.Image, info: dict, header: Header | None) -> tuple[Image.Image, tuple[str, ...]]:
    """Turn 8-bit colours into sRGB by what the file says of them, with a notice where that cannot be used.

    info: Pillow's, of the opened file. header: of the file; None for a picture that was in memory.
    """
    if header is not None and header.cicp is not None:
        primaries, transfer = (table.get(number) for table, number in zip((PRIMARIES, TRANSFERS), header.cicp,
                                                                          strict=True))
        if primaries is not None and transfer is not None:
            return by_numbers(colours, transfer, primaries), ()
        if not info.get("icc_profile"):
            return colours, (UNUSABLE,)
    if profile := info.get("icc_profile"):
        try:
            return by_profile(colours, profile), ()
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            return colours, (UNUSABLE,)
    if header is not None and header.has_profile:
        return colours, (UNUSABLE,)
    if "srgb" in info or colours.mode == "CMYK":
        return colours, ()
    gamma = info.get("gamma") or 0.0
    return by_numbers(colours, gamma, info.get("chromaticity") or SRGB), ()


def by_profile(image: Image.Image, profile: bytes) -> Image.Image:
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


def by_numbers(image: Image.Image, gamma: float, chromaticities: tuple[float, ...] = SRGB) -> Image.Image:
    """Turn samples that are light to the power of gamma, of these primaries, into sRGB; alpha stays.

    gamma: as gAMA says it, 1 is linear light; 0 and what is near 1 / 2.2 is sRGB's own curve, as browsers take it.
    chromaticities: eight numbers, as cHRM says them; those that make no sense are passed over.
    """
    levels = np.arange(256) / 255
    is_srgb = not 0.0001 < gamma < 1000 or abs(gamma * 2.2 - 1) < NEAR_SRGB
    linear = _srgb_to_linear(levels) if is_srgb else levels ** (1 / gamma)
    matrix = _to_srgb_primaries(chromaticities)
    if matrix is None:
        return image if is_srgb else _by_table(image, _linear_to_srgb(linear))
    alpha = image.getchannel("A") if image.mode.endswith("A") else None
    pixels = np.array(image.convert("RGB"))
    flat, encode = pixels.reshape(-1, 3), _linear_to_srgb(np.arange(FINE) / (FINE - 1))
    linear, matrix = linear.astype(np.float32), matrix.T.astype(np.float32)
    for start in range(0, len(flat), BAND):
        light = (linear[flat[start:start + BAND]] @ matrix).clip(0, 1)
        flat[start:start + BAND] = encode[(light * (FINE - 1) + 0.5).astype(np.uint16)]
    made = Image.fromarray(pixels)
    if alpha is not None:
        made.putalpha(alpha)
    return made


def _by_table(image: Image.Image, table: np.ndarray) -> Image.Image:
    bands = image.getbands()
    return image.point([value for band in bands for value in (range(256) if band == "A" else table.tolist())])


def _to_srgb_primaries(chromaticities: tuple[float, ...]) -> np.ndarray | None:
    """(3, 3): linear colours of these primaries -> linear sRGB; None where they are the same, or make no sense."""
    if len(chromaticities) != 8 or np.abs(np.subtract(chromaticities, SRGB)).max() < NEAR_PRIMARIES:
        return None
    try:
        source, target = _to_xyz(chromaticities), _to_xyz(SRGB)
        # Bradford's cone responses: what is white there is white here (Lindbloom, chromatic adaptation).
        cones = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
        white_to, white_from = cones @ target.sum(1), cones @ source.sum(1)
        adapt = np.linalg.inv(cones) @ np.diag(white_to / white_from) @ cones
        matrix = np.linalg.inv(target) @ adapt @ source
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    return matrix if np.isfinite(matrix).all() and np.abs(matrix).max() < 100 else None


def _to_xyz(chromaticities: tuple[float, ...]) -> np.ndarray:
    """(3, 3): linear red, green, blue -> XYZ, white being of luminance 1."""
    points = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in zip(chromaticities[::2], chromaticities[1::2],
                                                                    strict=True)])
    white, primaries = points[0], points[1:].T
    return primaries * np.linalg.solve(primaries, white)


def _srgb_to_linear(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _linear_to_srgb(values: np.ndarray) -> np.ndarray:
    """Linear light 0..1 -> levels 0..255, rounded."""
    curved = np.where(values <= 0.0031308, values * 12.92, 1.055 * np.maximum(values, 1e-9) ** (1 / 2.4) - 0.055)
    return np.rint(curved * 255).astype(np.uint8)
