"""Fills the masked part with the colours around it, so that a run does not start from what is to be replaced."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .blurring import gaussian
from .convert import flatten

# (sigma in px, how often it is laid on): wide and faint first, near and strong last.
LAYERS = ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2))
DETAIL = 4  # a blur of sigma s has nothing finer than this part of s, so it is worked out on a coarser grid


def fill(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Return the picture (RGB, flattened on white) with the masked part filled by colours that bleed inward.

    Blurred copies of the unmasked picture are laid over each other, from wide to narrow, and the unmasked picture
    on top: AUTOMATIC1111's order and radii (modules/masking.py). Where the mask is 0 the pixels stay exactly.
    A picture that is masked all over becomes grey.
    """
    if mask.size != image.size:
        raise ValueError(f"mask {mask.size} for a picture of {image.size}")
    pixels = np.asarray(flatten(image), np.float32)
    keep = 1 - np.asarray(mask, np.float32)[..., None] / 255
    kept = np.concatenate([pixels * keep, keep], axis=-1)
    total = kept.sum(axis=(0, 1), dtype=np.float64)
    filled = np.empty_like(pixels)
    filled[:] = total[:3] / total[3] if total[3] > 0 else 127
    for sigma, times in LAYERS:
        blurred = _blurred(kept, sigma)
        weight = blurred[..., 3:].clip(0, 1)
        colours = blurred[..., :3] / np.maximum(weight, 1e-4)
        filled += (colours - filled) * (1 - (1 - weight) ** times) * (weight > 1e-4)
    filled += (pixels - filled) * keep
    return Image.fromarray(np.rint(filled).clip(0, 255).astype(np.uint8))


def _blurred(channels: np.ndarray, sigma: float) -> np.ndarray:
    """Blur (h, w, c) float32, wide blurs on a coarser grid."""
    height, width = channels.shape[:2]
    step = max(1, round(sigma / DETAIL))
    coarse = (-(-width // step), -(-height // step))
    result = np.empty_like(channels)
    for index in range(channels.shape[-1]):
        plane = Image.fromarray(channels[..., index])
        if step > 1:
            plane = plane.resize(coarse, Image.Resampling.BOX)
        smooth = Image.fromarray(np.ascontiguousarray(gaussian(np.asarray(plane), sigma / step)))
        result[..., index] = np.asarray(smooth.resize((width, height), Image.Resampling.BILINEAR))
    return result
