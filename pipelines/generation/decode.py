"""From latents to pictures: the real decode, with its retries, and the cheap one for previews."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..errors import ModelError
from ..families import Family
from ..machine import memory
from ..machine.device import synchronize
from .windows import LATENT_PX, by_windows, vae_windows

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DiffusionPipeline

SMALL_DECODER = 8_000_000  # parameters; below it the autoencoder itself is cheap enough for previews
PREVIEW_SHARE = 0.01  # of the running time may go into previews
PREVIEW_EVERY_S = 0.3
PREVIEW_SIDE = 512


def decode(pipe: DiffusionPipeline, latents: torch.Tensor) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode one picture. latents: (1, c, h, w), scaled. Returns it and what had to be changed to get it.

    Out of memory: once more in tiles. Non-finite values, or nothing but zeros in half precision: once more in
    float32. Raises ModelError when that does not help; out of memory in tiles passes through.
    """
    vae, notices = pipe.vae, []
    changes: list[Callable[[Any], AbstractContextManager[None]]] = []  # each holds for the attempts after it too
    while True:
        half = vae.dtype != torch.float32 and memory.upcast not in changes
        with ExitStack() as undone:
            for change in changes:
                undone.enter_context(change(vae))
            with memory.attempt(last=vae.use_tiling) as whole:
                pixels = _decode(vae, latents)
        if whole.full:
            changes.append(memory.tiled)
            notices.append("Decoded in tiles, because the picture did not fit in memory.")
        elif bool(torch.isfinite(pixels).all()) and (not half or bool(pixels.any())):
            return to_image(pixels), tuple(notices)
        elif half:
            changes.append(memory.upcast)
            notices.append("Decoded in float32, because half precision gave no picture.")
        else:
            raise ModelError("The model gave no valid picture (not-a-number values). Try --dtype float32, another "
                             "sampler or a lower guidance scale.")


def _decode(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """(b, c, h, w) scaled latents to (b, 3, H, W) pixels in -1..1; a large picture in windows."""
    scaled = latents / vae.config.scaling_factor

    def pixels(part: torch.Tensor) -> torch.Tensor:
        return vae.decode(part.to(vae.dtype), return_dict=False)[0].float()

    with torch.inference_mode():
        windows = vae_windows(vae, *latents.shape[-2:])
        scale = 2 ** (len(vae.config.block_out_channels) - 1)
        return by_windows(scaled, windows, pixels, scale) if windows else pixels(scaled)


def to_image(pixels: torch.Tensor) -> Image.Image:
    """pixels: (1, 3, h, w) in -1..1, to 8 bit as diffusers' VaeImageProcessor rounds it."""
    unit = (pixels[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).float().cpu().numpy()
    return Image.fromarray((unit * 255).round().astype(np.uint8))


class Previews:
    """Draws predicted x0 now and then, within a fixed share of the running time."""

    def __init__(self, pipe: DiffusionPipeline, family: Family):
        self._pipe, self._family = pipe, family
        # Where components take turns on the device, a call of the autoencoder would send the U-Net away each time.
        takes_turns = hasattr(pipe.vae, "_hf_hook")
        self._small = not takes_turns and sum(p.numel() for p in pipe.vae.parameters()) < SMALL_DECODER
        self._due = perf_counter() + PREVIEW_EVERY_S

    def draw(self, x0: torch.Tensor) -> Image.Image | None:
        """x0: (b, c, h, w) predicted clean latents. Returns a picture of the first, or None when none is due."""
        if perf_counter() < self._due:
            return None
        synchronize(str(x0.device))  # or the steps that a card has in its queue would count as the preview's time
        begin = perf_counter()
        with memory.attempt() as drawing:  # no preview is worth a picture
            image = to_image(torch.nan_to_num(_decode(self._pipe.vae, _reduced(x0[:1])))) if self._small else \
                _by_factors(x0[:1], self._family)
        if drawing.full:
            self._due = float("inf")
            return None
        image.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        now = perf_counter()
        self._due = now + max(PREVIEW_EVERY_S, (now - begin) / PREVIEW_SHARE)
        return image


def _reduced(x0: torch.Tensor) -> torch.Tensor:
    """Latents of at most about PREVIEW_SIDE pixels: the mean of neighbours is near enough for a preview."""
    share = max(1, -(-max(x0.shape[-2:]) * LATENT_PX // PREVIEW_SIDE))
    return torch.nn.functional.avg_pool2d(x0, share, ceil_mode=True) if share > 1 else x0


def _by_factors(x0: torch.Tensor, family: Family) -> Image.Image:
    """A linear map from latent channels to RGB, at an eighth of the size."""
    with torch.inference_mode():
        factors = x0.new_tensor(family.latent_rgb)
        rgb = torch.einsum("chw,cr->rhw", torch.nan_to_num(x0[0]), factors)
        if family.latent_rgb_bias is not None:
            rgb = rgb + x0.new_tensor(family.latent_rgb_bias)[:, None, None]
        return to_image(rgb[None])


def finite_or_raise(latents: torch.Tensor) -> None:
    """Raise ModelError for latents that cannot be decoded."""
    if not bool(torch.isfinite(latents).all()):
        raise ModelError("The model's numbers overflowed while denoising. Try --dtype float32, another sampler or "
                         "a lower guidance scale.")
