"""What to do when the device has no room: recognise it, free, and run with less.

Every context manager here undoes on exit what it changed, so that a shared model leaves as it came.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from ..errors import OutOfMemory
from ..generation.windows import Window, cover
from ..models.offload import device_of
from ..requests import Request, Txt2Img, Upscale
from . import device
from .device import is_out_of_memory as is_out_of_memory

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

LATENT_PX = 8  # pixels of a side under one latent
MIN_SIDE = 64  # px, of a request
LAYERS_AT_ONCE = 8  # activations of a U-Net's first width that live at the same time, beside its skip connections
VAE_ROOM_BYTES = 6e9  # what the autoencoder may take for one picture; beyond it, it works in windows
VAE_WINDOW_PX, VAE_OVERLAP = 1024, 0.25

free = device.empty_cache


@contextmanager
def tiled(vae: AutoencoderKL) -> Iterator[None]:
    """Encode and decode in tiles."""
    before = vae.use_tiling
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.use_tiling = before


def vae_windows(vae: AutoencoderKL, height: int, width: int) -> tuple[Window, ...]:
    """The windows, in latents, in which an autoencoder takes a picture that is too large for one go; else ().

    It depends on the picture and the model alone: what is free at the moment must not change a picture. The estimate
    is of the decoder's last block, where activations have the size of the picture.
    """
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    channels = sum(vae.config.block_out_channels[:2]) + vae.config.block_out_channels[1]
    needed = height * width * scale**2 * channels * vae.dtype.itemsize
    tile = VAE_WINDOW_PX // scale
    return cover(height, width, tile, tile, VAE_OVERLAP) if needed > VAE_ROOM_BYTES else ()


@contextmanager
def upcast(module: torch.nn.Module, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Run a module in a wider dtype. Going there and back is exact."""
    before = module.dtype
    module.to(dtype)
    try:
        yield
    finally:
        module.to(before)


@contextmanager
def aside(*modules: torch.nn.Module) -> Iterator[None]:
    """Keep modules in host memory for a while."""
    homes = [module.device for module in modules]
    for module in modules:
        module.to("cpu")
    try:
        yield
    finally:
        for module, home in zip(modules, homes, strict=True):
            module.to(home)


def fitting_batch(unet: UNet2DConditionModel, request: Request) -> int:
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
