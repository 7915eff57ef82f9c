"""Masks: mode L, 255 = repaint, 0 = keep. From the brush editor or a file to the mask a run works with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageOps

from ..errors import RequestError
from .blurring import gaussian, kernel
from .convert import flatten

MAX_LAYERS = 4
FAINT = 16  # of 255: what an editor leaves behind when a stroke is erased


def from_editor(layers: Sequence[Image.Image], size: tuple[int, int]) -> Image.Image:
    """Join the alpha of the brush editor's layers: the largest wins, values up to FAINT become 0.

    layers: RGBA, each of any size (the editor works on a smaller copy). size: of the picture.
    Raises RequestError for more than MAX_LAYERS layers and for layers without alpha.
    """
    if len(layers) > MAX_LAYERS:
        raise RequestError(f"Mask: {len(layers)} layers are too many; the limit is {MAX_LAYERS}.", "mask")
    joined = Image.new("L", size)
    for layer in layers:
        if "A" not in layer.getbands():
            raise RequestError(f"Mask: a drawn layer must have alpha; this one is {layer.mode}.", "mask")
        alpha = layer.getchannel("A")
        if alpha.size != size:
            alpha = alpha.resize(size, Image.Resampling.BILINEAR)
        joined = ImageChops.lighter(joined, alpha)
    return joined.point([0 if value <= FAINT else value for value in range(256)])


def from_upload(image: Image.Image, size: tuple[int, int], *, soft: bool = False) -> Image.Image:
    """Read an uploaded mask: white repaints. A picture with transparent parts is read by its alpha.

    size: of the picture, to which a mask of another size is scaled (see `size_notice`). soft: keep graded alpha; else
    alpha above half repaints. Graded grey always stays graded. This is AUTOMATIC1111's reading (modules/processing.py).
    """
    if "A" in image.getbands() and image.getchannel("A").getextrema() != (255, 255):
        mask = image.getchannel("A")
        mask = mask if soft else mask.point([255 if value > 128 else 0 for value in range(256)])
    else:
        mask = flatten(image).convert("L")
    return mask if mask.size == tuple(size) else mask.resize(size, Image.Resampling.BILINEAR)


def size_notice(mask_size: tuple[int, int], size: tuple[int, int]) -> tuple[str, ...]:
    """Say that a mask is scaled to its picture's size; nothing where the sizes agree."""
    if tuple(mask_size) == tuple(size):
        return ()
    return (f"The mask has {mask_size[0]} x {mask_size[1]} px and the picture {size[0]} x {size[1]} px; the mask is "
            "scaled.",)


def from_transparency(image: Image.Image) -> Image.Image:
    """Read the mask that a picture carries itself: what is transparent is repainted, half of it half. L."""
    if "A" not in image.getbands():
        return Image.new("L", image.size)
    return ImageOps.invert(image.getchannel("A"))


def prepare(mask: Image.Image, *, invert: bool = False, grow: int = 0, blur: float = 0) -> Image.Image:
    """Invert, then grow (below 0: shrink) by pixels, then blur with sigma = blur.

    The order matters: growing widens what is repainted, whichever way round it was painted, and the blur is laid
    over the final edge. Pixels farther from the grown mask than the kernel reaches are exactly 0.
    """
    mask = ImageOps.invert(mask) if invert else mask
    mask = dilate(mask, grow) if grow > 0 else erode(mask, -grow)
    return soften(mask, blur)


def grow(mask: Image.Image, px: int) -> Image.Image:
    """Widen the mask by px on all sides; below 0 narrow it."""
    return dilate(mask, px) if px > 0 else erode(mask, -px)


def dilate(mask: Image.Image, px: int) -> Image.Image:
    """Give each pixel the largest value within a disc of radius px (at least 0)."""
    box = mask.getbbox()
    if px == 0 or box is None:
        return mask.copy()
    region = _widened(box, px, mask.size)
    grown = mask.copy()
    grown.paste(Image.fromarray(_disc_maximum(np.asarray(mask.crop(region)), px)), region[:2])
    return grown


def erode(mask: Image.Image, px: int) -> Image.Image:
    """Give each pixel the smallest value within a disc of radius px; the picture's own edge erodes nothing."""
    return ImageOps.invert(dilate(ImageOps.invert(mask), px))


def soften(mask: Image.Image, sigma: float) -> Image.Image:
    """Blur by a Gaussian of finite reach (see blurring.py), rounded to 8 bits."""
    box = mask.getbbox()
    reach = len(kernel(sigma)) // 2
    if reach == 0 or box is None:
        return mask.copy()
    region = _widened(box, reach, mask.size)
    values = np.asarray(mask.crop(region), np.float32)
    blurred = np.rint(gaussian(values, sigma)).clip(0, 255).astype(np.uint8)
    softened = Image.new("L", mask.size)
    softened.paste(Image.fromarray(blurred), region[:2])
    return softened


def is_empty(mask: Image.Image) -> bool:
    """Tell whether nothing at all is painted."""
    return mask.getbbox() is None


def _widened(box: tuple[int, int, int, int], px: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Widen a box by px, within the picture: all that a painted box can change."""
    return max(0, box[0] - px), max(0, box[1] - px), min(size[0], box[2] + px), min(size[1], box[3] + px)


def _disc_maximum(values: np.ndarray, radius: int) -> np.ndarray:
    """Take the maximum over a disc, row by row of the disc from its tips to its middle.

    values: (h, w) uint8. The rows get wider towards the middle, so each one is the last one widened a little.
    """
    height, width = values.shape
    result = values.copy()
    widened, reach = values.copy(), 0
    for distance in range(radius, -1, -1):
        target = int((radius * radius - distance * distance) ** 0.5)
        while reach < target:
            reach += 1
            if reach < width:
                np.maximum(widened[:, reach:], values[:, :-reach], out=widened[:, reach:])
                np.maximum(widened[:, :-reach], values[:, reach:], out=widened[:, :-reach])
        if distance < height:
            np.maximum(result[distance:], widened[:height - distance], out=result[distance:])
            np.maximum(result[:height - distance], widened[distance:], out=result[:height - distance])
    return result
