"""A loaded Stable Diffusion as a denoiser, walked by any of the app's samplers.

The app's own loop (generation/denoise.py), in which every step can be looked at and steered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..diffusion.guidance import classifier_free
from ..diffusion.noise_level import Prediction, read_prediction
from ..families import Family
from ..generation import samplers
from ..generation.backends.unet import unet_arguments
from ..generation.denoise import denoise
from ..generation.init_latents import Start
from ..models.offload import device_of
from ..prompts.embed import embed
from .sampling import CLEAN, Denoiser, Level

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, SchedulerMixin

LATENT_PX = 8


@dataclass(frozen=True)
class LatentState:
    """One step. view: the prediction, in latents of unit variance (b, 4, h, w). latents: where the step led, as the
    scheduler keeps them. direction: x0 with the prompt minus x0 without, or None without guidance."""

    step: int
    steps: int
    level: Level
    view: Prediction
    latents: Tensor
    direction: Tensor | None


class TextDenoiser:
    """x0 as a pipeline's U-Net sees it under a prompt, with classifier-free guidance (arXiv:2207.12598, eq. 6).

    Raises what `embed` raises. direction: x0 with the prompt minus x0 without, of the last call.
    """

    def __init__(self, pipe: DiffusionPipeline, family: Family, prompt: str, negative_prompt: str = "",
                 guidance_scale: float = 7.0):
        self._pipe, self._family, self._scale = pipe, family, guidance_scale
        self._halves = 2 if guidance_scale > 1 else 1
        self._prediction = pipe.scheduler.config.prediction_type
        made = embed(pipe, family, prompt, negative_prompt, guided=self._halves == 2)
        # What was made in inference mode cannot take part in a gradient; copies can.
        self._conditioning = replace(made, embeds=made.embeds.clone(),
                                     pooled=None if made.pooled is None else made.pooled.clone())
        self.direction: Tensor | None = None

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        x_t = torch.cat([x] * self._halves)
        arguments = unet_arguments(self._pipe, self._family, self._conditioning, x)
        output = self._pipe.unet(x_t, level.t, **arguments, return_dict=False)[0]
        x0 = read_prediction(self._prediction, output, x_t, level.alpha, level.sigma).x0
        if self._halves == 1:
            return x0
        nothing, wanted = x0.chunk(2)
        self.direction = (wanted - nothing).detach()
        return classifier_free(nothing, wanted, self._scale)


class SteeredPredictor:
    """A denoiser as the predictor of the app's own loop. level, x_t, x0: of the last call.

    A scheduler wants the model's own output, so x0 is turned back into it.
    """

    needs_grad = True

    def __init__(self, denoiser: Denoiser, sampler: str, scheduler: SchedulerMixin):
        self._denoiser, self._sampler, self._scheduler = denoiser, sampler, scheduler
        self.level: Level = CLEAN
        self.x_t = self.x0 = torch.empty(0)

    def __call__(self, latents: Tensor, t: Tensor, step: int, steps: int) -> Tensor:
        noise = samplers.noise_level(self._sampler, self._scheduler, t, step)
        self.level, self.x_t = Level(t, noise.alpha, noise.sigma), noise.scale * latents
        self.x0 = self._denoiser(self.x_t, self.level)
        return noise.output(self.x0, latents)


def walk(denoiser: Denoiser, sampler: str, scheduler: SchedulerMixin, latents: Tensor,
         generators: Sequence[torch.Generator]) -> Iterator[LatentState]:
    """Denoise with one of the app's samplers. latents: (b, 4, h, w), scaled for the scheduler's first step."""
    predictor = SteeredPredictor(denoiser, sampler, scheduler)
    for step in denoise(predictor, sampler, scheduler, Start(latents, scheduler.timesteps), generators):
        level = predictor.level
        seen = read_prediction("x0", predictor.x0, predictor.x_t, level.alpha, level.sigma)
        yield LatentState(step.index, step.count, level, seen, step.latents, getattr(denoiser, "direction", None))


def start(pipe: DiffusionPipeline, scheduler: SchedulerMixin, width: int, height: int,
          seeds: Sequence[int]) -> tuple[Tensor, list[torch.Generator]]:
    """Noise for pictures of width x height px, one seed each, at the scheduler's first level; and its generators."""
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    size = pipe.vae.config.latent_channels, height // LATENT_PX, width // LATENT_PX
    noise = torch.stack([torch.randn(size, generator=one, dtype=pipe.unet.dtype) for one in generators])
    return noise.to(device_of(pipe.unet)) * scheduler.init_noise_sigma, generators


def decoder(pipe: DiffusionPipeline) -> Callable[[Tensor], Tensor]:
    """Latents (b, 4, h, w) -> pictures (b, 3, 8 h, 8 w) about in -1..1, differentiable, for losses on pictures."""
    vae = pipe.vae
    return lambda latents: vae.decode((latents / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0].float()
