"""Show what a run will see of a picture before it begins: the part that is kept, from the checkpoint's configs alone.

Imports no torch.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageEnhance

from ...families import FAMILIES
from ...families.clip import CONFIGS
from ...images.geometry import Box, Size
from ...library.read.card import ModelCard, read_json
from ..request import Crop
from .buckets import crop_variants
from .picture import Picture, open_picture

DIMMED = 0.3  # brightness of what is not learned
FADED = 0.25  # colour of it


def size_step(card: ModelCard) -> int:
    """Pixels that the sides of a training picture are multiples of; as `Base.size_step`, without loading anything."""
    folder = CONFIGS / FAMILIES[card.family].config if card.kind == "file" or card.path is None else card.path
    depths = [len(read_json(Path(folder) / part / "config.json")["block_out_channels"]) - 1 for part in ("vae", "unet")]
    return 2 ** sum(depths)


def shown(picture: Picture, bucket: Size, crop: Crop, side_px: int, *, masked: bool = False) -> Image.Image:
    """The picture, small, with what no crop keeps dimmed; with `masked` also what its mask leaves out."""
    image, mask = open_picture(picture)
    boxes = crop_variants(image.size, bucket, crop)
    small = image.copy()
    small.thumbnail((side_px, side_px))
    dimmed = ImageEnhance.Brightness(ImageEnhance.Color(small).enhance(FADED)).enhance(DIMMED)
    learned = mask.resize(small.size) if masked and mask is not None else Image.new("L", small.size, 255)
    for box in boxes:
        edges = _scaled(box, small.width / image.width)
        dimmed.paste(small.crop(edges), edges, learned.crop(edges))
    return dimmed


def _scaled(box: Box, scale: float) -> tuple[int, int, int, int]:
    return tuple(round(edge * scale) for edge in (box.left, box.top, box.right, box.bottom))
