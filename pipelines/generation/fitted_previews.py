"""What a picture of the library's own pipelines will be, seen between two steps: a linear map from latents to colours.

Nobody has published such a map for each family, so it is fitted to the model's own autoencoder: it encodes one made-up
picture, and least squares tell which colours its latents stand for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch.nn import functional as F

from ..diffusion.noise_level import NoiseLevel
from ..families.family import Stock
from ..models.offload import device_of
from . import decode

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DiffusionPipeline, SchedulerMixin

log = logging.getLogger(__name__)

SIDES = (128, 256, 512)  # px of the picture; larger ones where latents are few
EQUATIONS = 4  # for each unknown, at least
RIDGE = 1e-3  # of the mean square of the latents: keeps channels that say nothing about colour small


class Glimpses:
    """Draws what a scheduler's steps predict, now and then."""

    def __init__(self, pipe: DiffusionPipeline, stock: Stock):
        self._stock, self._vae = stock, getattr(pipe, "vae", None) or pipe.movq
        self._due = perf_counter() + decode.PREVIEW_EVERY_S
        try:
            self._map = fitted(self._vae, of_films=stock.latents == "spread")
        except Exception:  # an autoencoder of a shape not met yet: the picture is made without previews
            log.warning("There are no previews with this autoencoder.", exc_info=True)
            self._map = None

    def draw(self, scheduler: SchedulerMixin, step: dict[str, Any], after: torch.Tensor, size: tuple[int, int]
             ) -> Image.Image | None:
        """The first picture of a batch, or None when none is due. step, after: what a scheduler's step takes and
        gives. size: width and height of the picture, in px."""
        now = perf_counter()
        if self._map is None or now < self._due:
            return None
        self._due = now + decode.PREVIEW_EVERY_S
        try:
            with torch.inference_mode():
                latents = unpacked(self._stock, self._vae, predicted(scheduler, step, after), size)
                weight, bias = (part.to(latents) for part in self._map)
                rgb = torch.einsum("chw,cr->rhw", torch.nan_to_num(latents), weight) + bias[:, None, None]
                return decode.to_image(rgb[None])
        except Exception:  # steps of a prior, whose output is no picture: those of the decoder after it may be drawn
            log.debug("This step has no preview.", exc_info=True)
            return None


def fitted(vae: AutoencoderKL, *, of_films: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Fit (c, 3) and (3,) with latents (c, h, w), as the autoencoder gives them, to RGB in -1..1."""
    with torch.inference_mode():
        for side in SIDES:
            picture = made_up(side)
            latents = _encoded(vae, picture, of_films)
            channels, height, width = latents.shape
            if height * width >= EQUATIONS * (channels + 1):
                break
        colours = F.adaptive_avg_pool2d(picture, (height, width))[0].flatten(1).T
        known = torch.cat([latents.flatten(1).T, torch.ones(height * width, 1)], 1)
        damping = RIDGE * known.square().mean() * height * width * torch.eye(channels + 1)
        found = torch.linalg.solve(known.T @ known + damping, known.T @ colours)
        return found[:-1], found[-1]


def made_up(side: int) -> torch.Tensor:
    """(1, 3, side, side) in -1..1: coloured spots of every size, always the same."""
    generator = torch.Generator().manual_seed(0)
    layers = [F.interpolate(torch.randn(1, 3, cells, cells, generator=generator), (side, side), mode="bilinear")
              for cells in (2, 4, 8, 16)]
    return (0.4 * sum(layers[1:], layers[0])).clamp(-1, 1)


def predicted(scheduler: SchedulerMixin, step: dict[str, Any], after: torch.Tensor) -> torch.Tensor:
    """x0 as the step's model output says it; what the step gave where that cannot be told.

    Flow: x0 = x - sigma * v (Lipman et al. 2022, arXiv:2210.02747, in the library's direction of time); variance
    exploding: x - sigma * eps; variance preserving: as in NoiseLevel.
    """
    sample, output = step["sample"], step["model_output"]
    if output.shape[1] > sample.shape[1]:  # it tells its variance as well
        output = output[:, :sample.shape[1]]
    kind = getattr(scheduler.config, "prediction_type", "flow_prediction")
    is_flow = kind.startswith("flow") or not hasattr(scheduler, "alphas_cumprod")
    if (is_flow or hasattr(scheduler, "is_scale_input_called")) and scheduler.step_index:
        sigma = scheduler.sigmas[scheduler.step_index - 1].to(sample)
        return sample - sigma * output if is_flow or kind == "epsilon" else after
    if hasattr(scheduler, "alphas_cumprod"):
        abar = scheduler.alphas_cumprod[int(step["timestep"])].to(sample)
        if kind in ("epsilon", "v_prediction"):
            return NoiseLevel(abar.sqrt(), (1 - abar).sqrt(), prediction_type=kind).x0(output, sample)
    return after


def unpacked(stock: Stock, vae: AutoencoderKL, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A pipeline's latents as its autoencoder gives them: (c, h, w), float32.

    Latents of films have one frame; transformers read 2x2 of them as one token, (b, h/2 * w/2, 4c). size: of the
    picture, which tells the rows of tokens.
    """
    latents = latents[:1].float()
    if latents.ndim == 5:
        latents = latents[:, :, 0]
    packed = latents.ndim == 3
    if packed:
        width, height = size
        rows = round((latents.shape[1] * height / width) ** 0.5)
        latents = latents.transpose(1, 2).unflatten(2, (rows, latents.shape[1] // rows))
    unpack = F.pixel_shuffle if packed else lambda whole, _: whole
    spread, mean = (torch.as_tensor(part, device=latents.device).reshape(-1, 1, 1)
                    for part in SPREAD_AND_MEAN[stock.latents](vae))
    if stock.latents == "norm":
        return unpack(latents * spread + mean, 2)[0]
    return (unpack(latents, 2) * spread + mean)[0]


# Of each channel of the autoencoder's own latents, or one for all of them.
SPREAD_AND_MEAN: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "factor": lambda vae: (1 / vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0),
    "spread": lambda vae: (vae.config.latents_std, vae.config.latents_mean),
    "norm": lambda vae: ((vae.bn.running_var + vae.config.batch_norm_eps).sqrt(), vae.bn.running_mean),
    "nothing": lambda vae: (1.0, 0.0)}


def _encoded(vae: AutoencoderKL, picture: torch.Tensor, of_films: bool) -> torch.Tensor:
    """(1, 3, h, w) pixels to the (c, h, w) latents of any of the library's autoencoders."""
    pixels = picture.to(device_of(vae), vae.dtype)
    found = vae.encode(pixels[:, :, None] if of_films else pixels)
    latents = found.latent_dist.mode() if hasattr(found, "latent_dist") else found[0]
    return (latents[:, :, 0] if of_films else latents)[0].float().cpu()
