"""The picture beside a model file, small. It is a stranger's file, so our own decoder reads it and it is drawn anew."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..errors import StudioError
from ..images.convert import convert, flatten

SIDE_PX = 384


def preview(path: Path, side_px: int = SIDE_PX) -> Image.Image | None:
    """Decode a picture and shrink it to at most side_px; None for one that cannot be used."""
    try:
        image = flatten(convert(path)[0])
    except (StudioError, OSError, MemoryError):
        return None
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    return image
