"""What of a request fits into memory: how many pictures at once, and what to ask for when it is not even one."""

from __future__ import annotations

from typing import Any

from ..errors import OutOfMemory
from ..machine import device
from ..models.offload import device_of
from ..requests import Request, Txt2Img, Upscale
from .windows import LATENT_PX

MIN_SIDE = 64  # px, of a request
LAYERS_AT_ONCE = 8  # activations of a U-Net's first width that live at the same time, beside its skip connections


def fitting_batch(unet: Any, request: Request) -> int:
    """How many of a batch's pictures main memory has room for at once. Raises OutOfMemory where it is not even one.

    A card says itself when it is full; on the CPU the system would end the whole program instead. The estimate is of
    one call of the U-Net for one picture: what its skip connections hold, and some layers at full size.
    """
    if device_of(unet).type != "cpu":
        return request.batch_size
    width, height = largest_pass(request)
    config = unet.config
    layers = config.layers_per_block if isinstance(config.layers_per_block, int) else max(config.layers_per_block)
    skips = sum((layers + 1) * channels / 4**level for level, channels in enumerate(config.block_out_channels))
    rows = 2 if (request.guidance_scale or 0) > 1 else 1
    channels = skips + LAYERS_AT_ONCE * config.block_out_channels[0]
    needed = rows * width * height / LATENT_PX**2 * channels * unet.dtype.itemsize
    free = device.host_free_bytes()
    if needed > free:
        raise OutOfMemory(f"{advice(request)} About {needed / 1e9:.1f} GB would be needed, and {free / 1e9:.1f} GB are "
                          "free.")
    return min(request.batch_size, int(free / needed))


def largest_pass(request: Request) -> tuple[int, int]:
    """Width and height, in pixels, of the most that the model sees at once."""
    if isinstance(request, Upscale):
        return request.tile, request.tile
    return request.final_size if isinstance(request, Txt2Img) else (request.width, request.height)


def advice(request: Request) -> str:
    """Say that a request does not fit, and what to try next: half the pixels, in steps of 64 px where possible.

    Nothing that was tried is advised again: the smallest size, or fewer pictures where there is one.
    """
    def smaller(side: int) -> int:
        grain = 64 if side > 256 else 8
        return max(MIN_SIDE, int(side * 0.7) // grain * grain)

    if isinstance(request, Txt2Img) and request.hires_scale > 1:
        wide, high = request.final_size
        return (f"Not enough memory for {wide}x{high} px, which is hires scale {request.hires_scale:g}. Try "
                f"{max(1, int(request.hires_scale * 7) / 10):g}.")
    if isinstance(request, Upscale):
        if request.tile == smaller(request.tile):
            return f"Not enough memory for tiles of {request.tile} px. Close other programs, or choose a smaller model."
        return f"Not enough memory for tiles of {request.tile} px. Try {smaller(request.tile)} px."
    asked = request.width, request.height
    less = tuple(map(smaller, asked))
    size, alone = f"{asked[0]}x{asked[1]}", request.batch_size == 1
    if less != asked:
        tried = f"{less[0]}x{less[1]}"
        return (f"Not enough memory for {size} px. Try {tried} px." if alone else
                f"Not enough memory for {size} px. Try {tried} px, or fewer pictures at once.")
    if not alone:
        return f"Not enough memory for {size} px. Try fewer pictures at once."
    return f"Not enough memory for {size} px. Close other programs, or choose a smaller model."
