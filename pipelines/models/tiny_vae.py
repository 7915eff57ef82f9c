"""The tiny autoencoder with the words of the large one: encoding gives a distribution, of no spread."""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput

NO_SPREAD = -30.0  # the least logarithm of a variance that the distribution takes; a deviation of 3e-7


class TinyAutoencoder(AutoencoderTiny):
    """AutoencoderTiny (TAESD) whose latents are read as an AutoencoderKL's are."""

    def encode(self, x: torch.Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple:
        """x: (b, 3, h, w) in -1..1."""
        latents = super().encode(x, return_dict=False)[0]
        found = DiagonalGaussianDistribution(torch.cat([latents, torch.full_like(latents, NO_SPREAD)], 1))
        return AutoencoderKLOutput(latent_dist=found) if return_dict else (found,)
