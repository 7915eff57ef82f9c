"""The denoise loop: from where a batch starts to its finished latents, one model call after the other.

Torch modes are entered once a step and never held across a yield, because a generator may be resumed and closed by
different threads, and the mode would stay on in one of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..families import Family
from ..prompts.embed import Conditioning, Conditionings
from ..requests import Request
from . import samplers
from .init_latents import LATENT_PX, Start
from .windows import Blend, Window

LMS_ORDER = 4  # slopes of earlier steps that LMS looks back at, as the library's class does by itself


@dataclass(frozen=True)
class Step:
    """One model call. index counts from 1; latents and x0: (b, 4, h, w); x0 is None before it was first predicted."""

    index: int
    count: int
    latents: torch.Tensor
    x0: torch.Tensor | None


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance. scale: as in diffusers. rescale: 0..1. start, end: shares of the steps it acts in."""

    scale: float
    rescale: float = 0.0
    start: float = 0.0
    end: float = 1.0

    @classmethod
    def of(cls, request: Request) -> Guidance:
        return cls(request.guidance_scale, request.guidance_rescale, request.guidance_start, request.guidance_end)

    def acts(self, step: int, steps: int) -> bool:
        """step: counted from 0."""
        return self.start <= (step + 0.5) / steps <= self.end


def denoise(pipe: Any, family: Family, sampler: str, scheduler: Any, start: Start,
            conditionings: Conditionings | Conditioning, guidance: Guidance, generators: Sequence[torch.Generator],
            options: Mapping[str, float] | None = None) -> Iterator[Step]:
    """Walk from start.latents along start.timesteps, yielding after every model call.

    With several windows each is a call of its own, and their predictions are blended. A second-order solver calls
    the model twice a step; prompts change with the steps, which count from start.begin.
    options: eta and the like, handed to a scheduler that knows them. The last step's latents are the result, with
    the kept part of a mask put back.
    """
    latents, count = start.latents, len(start.timesteps)
    accepted = inspect.signature(scheduler.step).parameters
    kwargs = {name: value for name, value in {"generator": list(generators), **(options or {})}.items()
              if name in accepted}
    distilled = pipe.unet.config.time_cond_proj_dim is not None  # such a model is told the guidance instead
    if distilled:
        told_scale, guidance = guidance.scale, replace(guidance, scale=1.0)
    else:
        told_scale, guidance = 1.0, replace(guidance, scale=max(1.0, guidance.scale))
    told: tuple[Conditioning, bool] | None = None
    windows = start.windows or (Window(0, 0, *latents.shape[-2:]),)
    calls, x0 = len(windows), None
    for i, t in enumerate(start.timesteps):
        outputs = Blend(windows)
        for number, window in enumerate(windows, 1):
            with torch.inference_mode():
                now = conditionings.at(i // scheduler.order), guidance.acts(i, count)
                part = window.of(latents)
                if told is None or now[0] is not told[0] or now[1] != told[1]:
                    told = now
                    conditioning = now[0] if now[1] else _unguided(now[0])
                    arguments = _unet_arguments(pipe, family, conditioning, part, told_scale)
                acting = guidance if now[1] else Guidance(1.0)
                outputs.add(window, _predict(pipe, scheduler, start, conditioning.weights, arguments, acting, part, t))
            if number < calls:
                yield Step(i * calls + number, count * calls, latents, x0)
        with torch.inference_mode():
            output = outputs.result(latents.dtype)
            level = samplers.noise_level(sampler, scheduler, t, start.begin + i)
            x0 = level.x0(output, latents)
            if start.mask is not None:
                # x0 is what is put back, not x_t: a multistep solver's history stays consistent that way.
                x0 = _keep(start, x0, (i + 1) / count)
                output = level.output(x0, latents)
            if "order" in accepted:  # LMS takes its start for the schedule's, and an image to image run has no past
                kwargs["order"] = min(i + 1, LMS_ORDER)
            latents = scheduler.step(output, t, latents, **kwargs, return_dict=False)[0]
            if start.mask is not None and i == count - 1:
                latents = _keep(start, latents, 1.0)
        yield Step((i + 1) * calls, count * calls, latents, x0)


def _unguided(conditioning: Conditioning) -> Conditioning:
    """Leave the unconditional row out, where a single prompt is the rest."""
    if len(conditioning.weights) != 1:
        return conditioning
    pooled = None if conditioning.pooled is None else conditioning.pooled[1:]
    return Conditioning(conditioning.embeds[1:], pooled)


def _predict(pipe: Any, scheduler: Any, start: Start, weights: tuple[float, ...], arguments: dict[str, Any],
             guidance: Guidance, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """One guided model call: (b, 4, h, w) -> the same. Ho & Salimans 2022 (arXiv:2207.12598), stock form.

    weights: of the prompts that stand after the unconditional one; none without guidance. Several are composed as in
    Liu et al. 2022 (arXiv:2206.01714) eq. 11.
    """
    rows = 1 + len(weights)
    x = scheduler.scale_model_input(torch.cat([latents] * rows), t)
    if start.extra is not None:
        x = torch.cat([x, torch.cat([start.extra] * rows)], 1)
    output = pipe.unet(x, t, **arguments, return_dict=False)[0]
    if not weights:
        return output
    uncond, *conds = output.chunk(rows)
    directions = [weight * (cond - uncond) for weight, cond in zip(weights, conds, strict=True)]
    direction = sum(directions[1:], directions[0])
    guided = uncond + guidance.scale * direction
    return _rescaled(guided, uncond + direction, guidance.rescale) if guidance.rescale else guided


def _rescaled(guided: torch.Tensor, cond: torch.Tensor, share: float) -> torch.Tensor:
    """Bring the guided output's spread back to the conditional one's. Lin et al. 2023 (arXiv:2305.08891) eq. 15-16."""
    axes = tuple(range(1, guided.ndim))
    even = guided * (cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True))
    return share * even + (1 - share) * guided


def _keep(start: Start, x: torch.Tensor, progress: float) -> torch.Tensor:
    """Put the original back where the mask keeps it.

    A soft mask opens with the steps: a place of weight m is free for the last m of them (Levin & Fried 2023,
    arXiv:2306.00950), so that grey changes less than white.
    """
    weight = (start.mask > 1 - progress).to(x.dtype) if start.soft else start.mask
    return start.original * (1 - weight) + x * weight


def _unet_arguments(pipe: Any, family: Family, conditioning: Conditioning, latents: torch.Tensor,
                    guidance_scale: float) -> dict[str, Any]:
    """The keyword arguments of the model calls that share a conditioning."""
    size, device = latents.shape[0], latents.device
    embeds, pooled = conditioning.for_batch(size)
    arguments: dict[str, Any] = {"encoder_hidden_states": embeds.to(device, latents.dtype)}
    if pipe.unet.config.time_cond_proj_dim is not None:  # guidance-distilled models (LCM) take it as an embedding
        w = torch.full((embeds.shape[0],), guidance_scale - 1)
        arguments["timestep_cond"] = pipe.get_guidance_scale_embedding(
            w, embedding_dim=pipe.unet.config.time_cond_proj_dim).to(device, latents.dtype)
    if family.pooled is not None:
        height, width = (side * LATENT_PX for side in latents.shape[-2:])
        ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=embeds.dtype)
        arguments["added_cond_kwargs"] = {"text_embeds": pooled.to(device, latents.dtype),
                                          "time_ids": ids.repeat(embeds.shape[0], 1).to(device)}
    return arguments
