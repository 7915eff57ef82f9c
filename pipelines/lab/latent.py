"""A loaded Stable Diffusion as a denoiser, walked by any of the app's samplers.

The lab's own loop around the U-Net of a leased pipeline, in which every step can be looked at and steered. Its
pictures equal those of the app's own loop (a test compares with the stock pipeline).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..families import Family
from ..generation import samplers
from ..prompts.embed import embed
from .sampling import Denoiser, Level
from .schedules import View, view

PREDICTIONS = {"epsilon": "noise", "sample": "x0", "v_prediction": "v"}  # diffusers' words -> the lab's
LATENT_PX = 8


@dataclass(frozen=True)
class LatentState:
    """One step. view: the prediction, in latents of unit variance (b, 4, h, w). latents: where the step led, as the
    scheduler keeps them. direction: x0 with the prompt minus x0 without, or None without guidance."""

    step: int
    steps: int
    level: Level
    view: View
    latents: Tensor
    direction: Tensor | None


class TextDenoiser:
    """x0 as a pipeline's U-Net sees it under a prompt, with classifier-free guidance (arXiv:2207.12598, eq. 6).

    Raises what `embed` raises. direction: x0 with the prompt minus x0 without, of the last call.
    """

    def __init__(self, pipe: Any, family: Family, prompt: str, negative_prompt: str = "", guidance_scale: float = 7.0):
        self._unet, self._scale = pipe.unet, guidance_scale
        self._halves = 2 if guidance_scale > 1 else 1
        self._prediction = PREDICTIONS[pipe.scheduler.config.prediction_type]
        conditioning = embed(pipe, family, prompt, negative_prompt, guided=self._halves == 2)
        # What was made in inference mode cannot take part in a gradient; copies can.
        self._embeds = conditioning.embeds.clone()
        self._pooled = None if conditioning.pooled is None else conditioning.pooled.clone()
        self.direction: Tensor | None = None

    def __call__(self, x: Tensor, level: Level) -> Tensor:
        x_t = torch.cat([x] * self._halves)
        output = self._unet(x_t, level.t, **self._told(x), return_dict=False)[0]
        x0 = view(self._prediction, output, x_t, level.alpha, level.sigma).x0
        if self._halves == 1:
            return x0
        nothing, wanted = x0.chunk(2)
        self.direction = (wanted - nothing).detach()
        return nothing + self._scale * (wanted - nothing)

    def _told(self, x: Tensor) -> dict[str, Any]:
        count = len(x)
        told: dict[str, Any] = {"encoder_hidden_states": self._embeds.repeat_interleave(count, 0).to(x)}
        if self._pooled is not None:  # SDXL is told sizes as well (Podell et al. 2023, arXiv:2307.01952, sec. 2.2)
            height, width = (LATENT_PX * side for side in x.shape[-2:])
            sizes = x.new_tensor([[height, width, 0, 0, height, width]])
            told["added_cond_kwargs"] = {"text_embeds": self._pooled.repeat_interleave(count, 0).to(x),
                                         "time_ids": sizes.repeat(self._halves * count, 1)}
        return told


def walk(denoiser: Denoiser, sampler: str, scheduler: Any, latents: Tensor,
         generators: Sequence[torch.Generator]) -> Iterator[LatentState]:
    """Denoise with one of the app's samplers. latents: (b, 4, h, w), scaled for the scheduler's first step.

    A scheduler wants the model's own output, so x0 is turned back into it (samplers.NoiseLevel).
    """
    accepted = inspect.signature(scheduler.step).parameters
    options = {"generator": list(generators)} if "generator" in accepted else {}
    count = len(scheduler.timesteps)
    for i, t in enumerate(scheduler.timesteps):
        with torch.no_grad():
            noise = samplers.noise_level(sampler, scheduler, t, i)
            level = Level(t, noise.alpha, noise.sigma)
            x = noise.scale * latents
            x0 = denoiser(x, level)
            seen = view("x0", x0, x, level.alpha, level.sigma)
            latents = scheduler.step(noise.output(x0, latents), t, latents, **options, return_dict=False)[0]
        yield LatentState(i + 1, count, level, seen, latents, getattr(denoiser, "direction", None))


def start(pipe: Any, scheduler: Any, width: int, height: int,
          seeds: Sequence[int]) -> tuple[Tensor, list[torch.Generator]]:
    """Noise for pictures of width x height px, one seed each, at the scheduler's first level; and its generators."""
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    size = pipe.vae.config.latent_channels, height // LATENT_PX, width // LATENT_PX
    noise = torch.stack([torch.randn(size, generator=one, dtype=pipe.unet.dtype) for one in generators])
    return noise.to(pipe.unet.device) * scheduler.init_noise_sigma, generators


def decoder(pipe: Any) -> Callable[[Tensor], Tensor]:
    """Latents (b, 4, h, w) -> pictures (b, 3, 8 h, 8 w) about in -1..1, differentiable, for losses on pictures."""
    vae = pipe.vae
    return lambda latents: vae.decode((latents / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0].float()
