"""Pictures -> latents, without running out of memory. decode.py is the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image

from ..machine import memory
from ..models.offload import device_of
from .noise import Draws
from .windows import LATENT_PX, Blend, vae_windows

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DiffusionPipeline


def encode(pipe: DiffusionPipeline, image: Image.Image, draws: Draws) -> torch.Tensor:
    """Return scaled latents (b, 4, h, w) of a picture: one sample of the posterior for each of the b generators.

    A picture that does not fit into memory whole is encoded in tiles.
    """
    vae = pipe.vae
    values = np.asarray(image.convert("RGB"), np.float32)[None] / 255
    # Laid out in memory as VaeImageProcessor does, or the convolutions round differently.
    pixels = (torch.from_numpy(values.transpose(0, 3, 1, 2)) * 2 - 1).to(device_of(vae), vae.dtype)
    with torch.inference_mode():
        with memory.attempt(last=vae.use_tiling) as whole:
            posterior = _posterior(vae, pixels)
        if whole.full:
            with memory.tiled(vae):
                posterior = vae.encode(pixels).latent_dist
        latents = torch.cat([posterior.sample(generator) for generator in draws.encoders or draws.generators])
        return (latents * vae.config.scaling_factor).to(pipe.unet.dtype)


def _posterior(vae: AutoencoderKL, pixels: torch.Tensor) -> Any:
    """What the encoder says of a picture (1, 3, h, w); of a large one in windows."""
    windows = vae_windows(vae, *(side // LATENT_PX for side in pixels.shape[-2:]))
    if not windows:
        return vae.encode(pixels).latent_dist
    moments = Blend(windows)
    for window in windows:
        moments.add(window, vae.encode(window.times(LATENT_PX).of(pixels)).latent_dist.parameters)
    return DiagonalGaussianDistribution(moments.result(vae.dtype))
