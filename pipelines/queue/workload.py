"""How much work a request is, in pixel steps: the pixels of a picture, times its steps, times the pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..requests import Request, Txt2Img, Upscale

Size = tuple[int, int]
USUAL_STEPS = 30  # where a request does not say


def pixel_steps(asked: Any, size_of: Callable[[str], Size]) -> int:
    """Return the work of a concrete request, a grid or a series; 0 for whatever draws no picture by steps.

    size_of: stored picture's id -> width and height in pixels.
    """
    if isinstance(asked, Request):
        return round(_one(asked, size_of))
    if hasattr(asked, "cells"):
        return round(sum(_one(cell, size_of) for _, cell in asked.cells()))
    return 0


def _one(request: Request, size_of: Callable[[str], Size]) -> float:
    steps = request.steps or USUAL_STEPS
    width, height = _size(request, size_of)
    work = width * height * steps * getattr(request, "strength", 1.0)
    if isinstance(request, Upscale) and not request.redraw:
        work = width * height
    if isinstance(request, Txt2Img) and request.hires_scale > 1:
        wide, high = request.final_size
        work += wide * high * (request.hires_steps or steps) * request.hires_strength
    return work * request.image_count


def _size(request: Request, size_of: Callable[[str], Size]) -> Size:
    if isinstance(request, Upscale):
        return request.enlarged(size_of(request.image))
    return request.width or 512, request.height or 512
