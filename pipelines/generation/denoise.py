"""The denoise loop: from where a batch starts to its finished latents, one model call after the other.

It knows a predictor and a scheduler; what the model is, and how it is guided, is the predictor's business. Torch modes
are entered once a step and never held across a yield, because a generator may be resumed and closed by different
threads, and the mode would stay on in one of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..diffusion.predictor import Predictor
from . import samplers
from .init_latents import Start
from .windows import Blend, Window

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

LMS_ORDER = 4  # slopes of earlier steps that LMS looks back at, as the library's class does by itself


@dataclass(frozen=True)
class Step:
    """One model call. index counts from 1; latents and x0: (b, 4, h, w); x0 is None before it was first predicted."""

    index: int
    count: int
    latents: torch.Tensor
    x0: torch.Tensor | None


def denoise(predictor: Predictor, sampler: str, scheduler: SchedulerMixin, start: Start,
            generators: Sequence[torch.Generator], options: Mapping[str, float] | None = None) -> Iterator[Step]:
    """Walk from start.latents along start.timesteps, yielding after every model call.

    With several windows each is a call of its own, and their predictions are blended. A second-order solver calls
    the model twice a step. options: eta and the like, handed to a scheduler that knows them. The last step's latents
    are the result, with the kept part of a mask put back.
    """
    latents, count = start.latents, len(start.timesteps)
    accepted = inspect.signature(scheduler.step).parameters
    kwargs = {name: value for name, value in {"generator": list(generators), **(options or {})}.items()
              if name in accepted}
    no_gradients = torch.no_grad if predictor.needs_grad else torch.inference_mode
    windows = start.windows or (Window(0, 0, *latents.shape[-2:]),)
    calls, x0 = len(windows), None
    for i, t in enumerate(start.timesteps):
        outputs = Blend(windows)
        for number, window in enumerate(windows, 1):
            with no_gradients():
                outputs.add(window, predictor(window.of(latents), t, i, count))
            if number < calls:
                yield Step(i * calls + number, count * calls, latents, x0)
        with no_gradients():
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


def _keep(start: Start, x: torch.Tensor, progress: float) -> torch.Tensor:
    """Put the original back where the mask keeps it.

    A soft mask opens with the steps: a place of weight m is free for the last m of them (Levin & Fried 2023,
    arXiv:2306.00950), so that grey changes less than white.
    """
    weight = (start.mask > 1 - progress).to(x.dtype) if start.soft else start.mask
    return start.original * (1 - weight) + x * weight
