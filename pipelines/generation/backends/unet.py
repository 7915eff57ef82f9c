"""A U-Net with text encoders as a predictor: one guided call of the model for latents at a step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ...diffusion.guidance import composed_direction, rescale
from ...families import Family
from ...prompts.embed import Conditioning, Conditionings
from ...requests import Request
from ..windows import LATENT_PX

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, SchedulerMixin


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance. scale: as in diffusers. rescale: 0..1. start, end: shares of the steps it acts in.

    least: what a lower scale is raised to; below 1 the model is asked without the prompt as well.
    """

    scale: float
    rescale: float = 0.0
    start: float = 0.0
    end: float = 1.0
    least: float = 1.0

    @classmethod
    def of(cls, request: Request) -> Guidance:
        return cls(request.guidance_scale, request.guidance_rescale, request.guidance_start, request.guidance_end)

    def acts(self, step: int, steps: int) -> bool:
        """step: counted from 0."""
        return self.start <= (step + 0.5) / steps <= self.end


NO_GUIDANCE = Guidance(1.0)


class UNetPredictor:
    """Predicts with a pipeline's U-Net under the prompts of each step.

    conditionings: of every step. extra: (b, 5, h, w) mask and masked picture for a U-Net with 9 channels, or None.
    A model that was distilled for guidance (LCM) takes the scale as an embedding instead of a second row.
    """

    needs_grad = False

    def __init__(self, pipe: DiffusionPipeline, family: Family, scheduler: SchedulerMixin,
                 conditionings: Conditionings | Conditioning, guidance: Guidance, extra: torch.Tensor | None = None):
        self._pipe, self._family, self._scheduler = pipe, family, scheduler
        self._conditionings, self._extra = conditionings, extra
        self._distilled = pipe.unet.config.time_cond_proj_dim is not None
        self._embedded_scale = guidance.scale if self._distilled else 1.0
        self._guidance = replace(guidance, scale=1.0 if self._distilled else max(guidance.least, guidance.scale))
        self._key: tuple[Any, ...] | None = None
        self._arguments: dict[str, Any] = {}
        self._weights: tuple[float, ...] = ()
        self.unconditional: torch.Tensor | None = None  # raw output without the prompt, if the last call had one

    def __call__(self, latents: torch.Tensor, t: torch.Tensor, step: int, steps: int) -> torch.Tensor:
        """One guided model call: (b, 4, h, w) -> the same. step: counted from 0.

        Ho & Salimans 2022 (arXiv:2207.12598), in diffusers' form; several prompts are composed.
        """
        guided = self._guidance.acts(step, steps)
        self._prepare(self._conditionings.at(step), guided, latents)
        rows = 1 + len(self._weights)
        x = self._scheduler.scale_model_input(torch.cat([latents] * rows), t)
        if self._extra is not None:
            x = torch.cat([x, torch.cat([self._extra] * rows)], 1)
        output = self._pipe.unet(x, t, **self._arguments, return_dict=False)[0]
        self.unconditional = None
        if not self._weights:
            return output
        uncond, *conds = output.chunk(rows)
        self.unconditional = uncond
        direction = composed_direction(uncond, conds, self._weights)
        acting = self._guidance if guided else NO_GUIDANCE
        pushed = uncond + acting.scale * direction
        return rescale(pushed, uncond + direction, acting.rescale) if acting.rescale else pushed

    def _prepare(self, conditioning: Conditioning, guided: bool, latents: torch.Tensor) -> None:
        """Make the call's arguments anew where conditioning, guidance or the size changed."""
        if self._key is not None and self._key[0] is conditioning and self._key[1:] == (guided, latents.shape):
            return
        self._key = conditioning, guided, latents.shape
        rows = conditioning if guided else without_unconditional(conditioning)
        self._weights = rows.weights
        self._arguments = unet_arguments(self._pipe, self._family, rows, latents, self._embedded_scale)


def without_unconditional(conditioning: Conditioning) -> Conditioning:
    """Leave the unconditional row out, where a single prompt is the rest."""
    if len(conditioning.weights) != 1:
        return conditioning
    pooled = None if conditioning.pooled is None else conditioning.pooled[1:]
    return Conditioning(conditioning.embeds[1:], pooled)


def unet_arguments(pipe: DiffusionPipeline, family: Family, conditioning: Conditioning, latents: torch.Tensor,
                   guidance_scale: float = 1.0) -> dict[str, Any]:
    """The keyword arguments of the model calls that share a conditioning. latents: (b, c, h, w)."""
    size, device = latents.shape[0], latents.device
    embeds, pooled = conditioning.for_batch(size)
    arguments: dict[str, Any] = {"encoder_hidden_states": embeds.to(device, latents.dtype)}
    if pipe.unet.config.time_cond_proj_dim is not None:
        w = torch.full((embeds.shape[0],), guidance_scale - 1)
        arguments["timestep_cond"] = pipe.get_guidance_scale_embedding(
            w, embedding_dim=pipe.unet.config.time_cond_proj_dim).to(device, latents.dtype)
    if family.pooled is not None:  # SDXL is told sizes as well (Podell et al. 2023, arXiv:2307.01952, sec. 2.2)
        height, width = (side * LATENT_PX for side in latents.shape[-2:])
        ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=embeds.dtype)
        arguments["added_cond_kwargs"] = {"text_embeds": pooled.to(device, latents.dtype),
                                          "time_ids": ids.repeat(embeds.shape[0], 1).to(device)}
    return arguments
