"""What an autoencoder keeps of a picture: its latent channels, its reconstruction, and how far that is off.

Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv:2112.10752), sec. 3.1.
A VAE is any with diffusers' encode and decode: AutoencoderKL, or the tiny autoencoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import RequestError
from ..generation.decode import to_image
from ..images.convert import flatten
from ..models.offload import device_of

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

GRAIN = 8  # pixels of a side under one latent


@dataclass(frozen=True)
class Reconstruction:
    """latents: (1, c, h, w). channels: each as a grey picture. difference: brightness 4 times the error. psnr: dB."""

    original: Image.Image
    latents: Tensor
    channels: tuple[Image.Image, ...]
    image: Image.Image
    difference: Image.Image
    psnr: float
    ssim: float


def examine(vae: AutoencoderKL, image: Image.Image) -> Reconstruction:
    """Encode and decode a picture, cut to sides that are multiples of 8."""
    original = _cut(image)
    latents = encode(vae, original)
    reconstructed = decode(vae, latents)
    pair = pixels_of(original), pixels_of(reconstructed)
    error = (pair[0] - pair[1]).abs() * 4 - 1
    return Reconstruction(original, latents, channels(latents), reconstructed, to_image(error.clamp(-1, 1)),
                          psnr(*pair), ssim(*pair))


def encode(vae: AutoencoderKL, image: Image.Image) -> Tensor:
    """(1, c, h / 8, w / 8), scaled to about unit variance; the posterior's mean, so always the same."""
    with torch.no_grad():
        out = vae.encode(pixels_of(_cut(image)).to(device_of(vae), vae.dtype))
        latents = out.latent_dist.mean if hasattr(out, "latent_dist") else out.latents  # the tiny one has no posterior
        return (latents * vae.config.scaling_factor).float()


def decode(vae: AutoencoderKL, latents: Tensor) -> Image.Image:
    """The picture of latents (1, c, h, w)."""
    with torch.no_grad():
        scaled = (latents / vae.config.scaling_factor).to(device_of(vae), vae.dtype)
        return to_image(vae.decode(scaled, return_dict=False)[0].float())


def channels(latents: Tensor, enlarge: int = GRAIN) -> tuple[Image.Image, ...]:
    """Each channel as a grey picture: middle grey is 0, black and white are 3 standard deviations of unit noise."""
    shown = (latents[0].clamp(-3, 3) / 3)[:, None].expand(-1, 3, -1, -1)
    return tuple(to_image(F.interpolate(one[None], scale_factor=enlarge)) for one in shown)


def interpolated(first: Tensor, second: Tensor, count: int, spherical: bool = False) -> Iterator[Tensor]:
    """`count` latents from one to the other, both ends included.

    spherical keeps the length, as noise needs it (White 2016, arXiv:1609.04468); latents of pictures mix well along
    the straight line.
    """
    if first.shape != second.shape:
        raise RequestError("Picture: both pictures have to have the same size.", "image")
    for i in range(count):
        share = i / max(1, count - 1)
        yield slerp(first, second, share) if spherical else torch.lerp(first, second, share)


def slerp(first: Tensor, second: Tensor, share: float) -> Tensor:
    """sin((1 - s) w) / sin w a + sin(s w) / sin w b, w the angle between a and b (Shoemake 1985)."""
    cosine = F.cosine_similarity(first.flatten(), second.flatten(), dim=0).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if angle.sin() < 1e-4:  # almost one direction
        return torch.lerp(first, second, share)
    return (((1 - share) * angle).sin() * first + (share * angle).sin() * second) / angle.sin()


def combined(terms: Sequence[tuple[float, Tensor]]) -> Tensor:
    """Weighted sum of latents of one shape: [(1, smiling), (-1, neutral), (1, other)] moves a smile."""
    if len({latents.shape for _, latents in terms}) > 1:
        raise RequestError("Picture: all pictures have to have the same size.", "image")
    return sum(weight * latents for weight, latents in terms)


def psnr(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio in dB: -10 log10 of the mean squared error of values in 0..1; inf for equal ones."""
    error = (first.double() / 2 + 0.5 - (second.double() / 2 + 0.5)).square().mean()
    return float("inf") if error == 0 else float(-10 * torch.log10(error))


def ssim(first: Tensor, second: Tensor) -> float:
    """Structural similarity, 1 for equal pictures: Wang et al. 2004 (IEEE TIP 13, 600), eq. 13, mean over the picture.

    Their constants: an 11 x 11 Gaussian window of deviation 1.5, C1 = 0.01^2, C2 = 0.03^2; each colour by itself.
    Pictures (1, c, h, w) in -1..1, at least 11 px a side.
    """
    x, y = (one.double() / 2 + 0.5 for one in (first, second))
    line = torch.exp(-torch.arange(-5, 6, dtype=torch.float64) ** 2 / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2

    def local_mean(one: Tensor) -> Tensor:
        return F.conv2d(one.transpose(0, 1), window[None, None])

    mean_x, mean_y = local_mean(x), local_mean(y)
    var_x, var_y = local_mean(x * x) - mean_x**2, local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    return float((((2 * mean_x * mean_y + c1) * (2 * covariance + c2))
                  / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def pixels_of(image: Image.Image) -> Tensor:
    """(1, 3, h, w) in -1..1."""
    levels = np.asarray(image.convert("RGB"), np.float32) / 127.5 - 1
    return torch.from_numpy(levels.transpose(2, 0, 1)[None].copy())


def _cut(image: Image.Image) -> Image.Image:
    """Leave out what is beyond a multiple of 8, evenly on both sides. Raises RequestError for less than 16 px."""
    width, height = (side // GRAIN * GRAIN for side in image.size)
    if min(width, height) < 2 * GRAIN:
        raise RequestError(f"Picture: {image.width} x {image.height} px is too small; at least {2 * GRAIN} px a side.",
                           "image")
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return flatten(image).crop((left, top, left + width, top + height))
