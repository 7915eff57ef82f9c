"""Where a picture and the working size meet: a box in the picture is what the model sees.

`cut` shows the box at the working size, `paste` brings the result back to exactly the same pixels. All resize modes
and both inpaint areas are only different boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from ..requests import ResizeMode
from .convert import check_size, flatten

MULTIPLE = 8  # the autoencoders of the supported families halve three times
MIN_SIDE, MAX_WORK_SIDE = 64, 2048
SEAM = 16  # px of the old picture that outpainting blends with the new
EDGE_BLUR = 16  # px, sigma: turns the streaks of repeated edge pixels into soft colours

Size = tuple[int, int]  # (width, height)


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the source; right and bottom are exclusive. It may stick out of the picture."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def edges(self) -> tuple[int, int, int, int]:
        """As Pillow takes it: left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom

    def within(self, size: Size) -> Box:
        """The part that lies in a picture of this size. Raises ValueError when there is none."""
        seen = Box(max(0, self.left), max(0, self.top), min(size[0], self.right), min(size[1], self.bottom))
        if seen.width < 1 or seen.height < 1:
            raise ValueError(f"{self} lies outside a picture of {size}")
        return seen


def working_size(mode: ResizeMode, source_size: Size, width: int, height: int, multiple: int = MULTIPLE) -> Size:
    """Choose the size the model works at: as asked, or for "keep" the source's, rounded down to whole multiples."""
    if mode != "keep":
        return width, height
    return tuple(max(MIN_SIDE, side // multiple * multiple) for side in source_size)


def fitting_size(native: int, width: int, height: int, multiple: int = MULTIPLE) -> Size:
    """A picture's own shape at about native x native pixels, as a request takes it: whole multiples, 64 to 2048."""
    scale = native / (width * height) ** 0.5
    return tuple(min(MAX_WORK_SIDE, max(MIN_SIDE, round(side * scale / multiple) * multiple))
                 for side in (width, height))


def box_for(mode: ResizeMode, source_size: Size, work_size: Size) -> Box:
    """Choose the box of a resize mode.

    stretch: the whole source. crop: the largest centred box of the working size's aspect. fill: the smallest such
    box around the whole source, which sticks out. keep: the whole source, stretched by less than 8 px, so that
    nothing at the edges is out of reach of a mask.
    """
    width, height = source_size
    if mode in ("crop", "fill"):
        aspect = work_size[0] / work_size[1]
        if (width > height * aspect) == (mode == "crop"):
            width = max(1, round(height * aspect))
        else:
            height = max(1, round(width / aspect))
    left, top = (source_size[0] - width) // 2, (source_size[1] - height) // 2
    return Box(left, top, left + width, top + height)


def box_around(mask: Image.Image, padding: int, source_size: Size, work_size: Size) -> Box | None:
    """Choose the box of "Only masked"; None when nothing is painted.

    The bounds of all that is not 0, widened by padding, grown to the working size's aspect equally on both sides and
    shifted inward where that crosses an edge; at a picture that is too small the aspect is missed. The rule is
    AUTOMATIC1111's (modules/masking.py).
    """
    bounds = mask.getbbox()
    if bounds is None:
        return None
    padded = Box(bounds[0] - padding, bounds[1] - padding, bounds[2] + padding, bounds[3] + padding)
    box = padded.within(source_size)
    aspect = work_size[0] / work_size[1]
    left, right = _grown(box.left, box.right, round(box.height * aspect), source_size[0])
    top, bottom = _grown(box.top, box.bottom, round(box.width / aspect), source_size[1])
    return Box(left, top, right, bottom)


def cut(image: Image.Image, box: Box, size: Size, resample: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """Show the box at a size (L, RGB or RGBA); where it sticks out, the picture's edge pixels are repeated.

    The visible part is resized to its place and repeated there: a box may be far larger than any picture.
    """
    seen = box.within(image.size)
    place = _place(box, seen, size)
    shown = image.crop(seen.edges).resize((place.width, place.height), resample)
    if shown.size == tuple(size):
        return shown
    rows = np.arange(size[1]).clip(place.top, place.bottom - 1) - place.top
    columns = np.arange(size[0]).clip(place.left, place.right - 1) - place.left
    return Image.fromarray(np.asarray(shown)[rows[:, None], columns])


def paste(source: Image.Image, result: Image.Image, box: Box, overlay: Image.Image) -> Image.Image:
    """Lay the result over the box of the source, as strongly as the overlay says; the source's size and mode stay.

    source: RGB or RGBA. result: RGB, any size; it fills the box. overlay: L, the source's size; outside the box it
    is ignored. Where it is 0, every byte of the source comes back, also the colours under alpha 0; where it is
    255, the result's bytes. In an RGBA source the result counts as an opaque picture, so alpha rises to 255.
    """
    if overlay.mode != "L" or overlay.size != source.size:
        raise ValueError(f"overlay {overlay.mode} {overlay.size} for a source of {source.size}")
    merged = source.copy()
    seen = box.within(source.size)
    bounds = overlay.crop(seen.edges).getbbox()  # nothing else changes, and most masks are small
    if bounds is None:
        return merged
    place = _place(box, seen, result.size)
    patch = result.convert("RGB").crop(place.edges).resize((seen.width, seen.height), Image.Resampling.LANCZOS)
    left, top = seen.left + bounds[0], seen.top + bounds[1]
    region = (left, top, seen.left + bounds[2], seen.top + bounds[3])
    below, above = np.asarray(source.crop(region)), np.asarray(patch.crop(bounds))
    weight = np.asarray(overlay.crop(region))[..., None]
    blend = _over if source.mode == "RGBA" else _mix
    merged.paste(Image.fromarray(blend(below, above, weight)), (left, top))
    return merged


def expand(image: Image.Image, mask: Image.Image | None, left: int = 0, right: int = 0, top: int = 0,
           bottom: int = 0) -> tuple[Image.Image, Image.Image]:
    """Add room on any side for outpainting: the larger picture and the mask that repaints the new part.

    The room shows the picture's edge colours, repeated and blurred, opaque; the old pixels stay as they are. The mask
    is 255 in the room and runs out over SEAM px (at most a quarter) of the old picture, or stays as it was where
    that was more. Give it a mask that went through `mask.prepare`: inverting, shrinking or blurring afterwards
    would take the room away again. mask None: nothing is painted.
    Raises RequestError when the picture would become too large.
    """
    added = {"outpaint_left": left, "outpaint_right": right, "outpaint_top": top, "outpaint_bottom": bottom}
    if min(added.values()) < 0:
        raise ValueError(f"negative room: {added}")
    mask = mask or Image.new("L", image.size)
    if not any(added.values()):
        return image.copy(), mask.copy()
    size = (image.width + left + right, image.height + top + bottom)
    check_size(*size, field=max(added, key=added.get))
    edges = np.pad(np.asarray(flatten(image)), ((top, bottom), (left, right), (0, 0)), mode="edge")
    picture = Image.fromarray(edges).filter(ImageFilter.GaussianBlur(EDGE_BLUR)).convert(image.mode)
    picture.paste(image, (left, top))
    seam = np.maximum(_ramp(image.height, top, bottom)[:, None], _ramp(image.width, left, right)[None, :])
    repaint = Image.new("L", size, 255)
    repaint.paste(Image.fromarray(np.maximum(np.asarray(mask), seam)), (left, top))
    return picture, repaint


def _grown(start: int, end: int, wanted: int, limit: int) -> tuple[int, int]:
    """Widen a span to a length on both sides, shifted to lie in 0..limit; one that is long enough stays."""
    missing = min(wanted, limit) - (end - start)
    if missing <= 0:
        return start, end
    start = min(max(0, start - missing // 2), limit - (end - start) - missing)
    return start, start + min(wanted, limit)


def _place(box: Box, seen: Box, size: Size) -> Box:
    """Where the seen part of a box lies when the box is shown at a size: whole pixels, at least one."""
    spans = []
    for start, end, first, last, shown in ((box.left, box.right, seen.left, seen.right, size[0]),
                                           (box.top, box.bottom, seen.top, seen.bottom, size[1])):
        scale = shown / (end - start)
        low = min(round((first - start) * scale), shown - 1)
        spans.append((low, max(round((last - start) * scale), low + 1)))
    (left, right), (top, bottom) = spans
    return Box(left, top, right, bottom)


def _mix(below: np.ndarray, above: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Blend (h, w, 3) uint8 by weight (h, w, 1) / 255, rounded; exact at 0 and 255."""
    weight = weight.astype(np.uint16)  # 255 * 255 + 127 still fits
    return ((below * (255 - weight) + above * weight + 127) // 255).astype(np.uint8)


def _over(below: np.ndarray, above: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Lay an opaque picture (h, w, 3) with weight (h, w, 1) / 255 over an RGBA one (h, w, 4); uint8, rounded.

    Porter & Duff's "over": a colour counts by how much of it is seen, so nothing hidden under alpha 0 shines through.
    """
    weight = weight.astype(np.uint32)
    new, old = weight * 255, below[..., 3:] * (255 - weight)
    total = np.maximum(new + old, 1)
    colours = (above * new + below[..., :3] * old + total // 2) // total
    merged = np.concatenate([colours, (new + old + 127) // 255], axis=-1).astype(np.uint8)
    return np.where(weight == 0, below, merged)  # at alpha 0 there is no seen colour to keep


def _ramp(length: int, before: int, after: int) -> np.ndarray:
    """Fall from near 255 to 0 over the seam at the sides that have room beyond them: (length,) uint8."""
    seam = min(SEAM, length // 4)
    fall = np.linspace(255, 0, seam + 2)[1:-1].round().astype(np.uint8)
    ramp = np.zeros(length, np.uint8)
    if before:
        ramp[:seam] = fall
    if after:
        ramp[length - seam:] = np.maximum(ramp[length - seam:], fall[::-1])
    return ramp
