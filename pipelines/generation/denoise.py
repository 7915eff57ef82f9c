"""The denoise loop: from where a batch starts to its finished latents, one model call after the other.

It knows a predictor and a scheduler; what the model is, and how it is guided, is the predictor's business. Torch modes
are entered once a step and never held across a yield, because a generator may be resumed and closed by different
threads, and the mode would stay on in one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..diffusion.predictor import Predictor
from . import samplers
from .init_latents import Start
from .library_schedulers import LibraryWalk
from .noise import Source
from .sigma_walk import SigmaWalk
from .windows import Blend, Window


@dataclass(frozen=True)
class Step:
    """One model call. index counts from 1; latents and x0: (b, 4, h, w); x0 is None before it was first predicted."""

    index: int
    count: int
    latents: torch.Tensor
    x0: torch.Tensor | None


def denoise(predictor: Predictor, sampler: str, scheduler: SigmaWalk | LibraryWalk, start: Start,
            generators: Sequence[Source], options: Mapping[str, float] | None = None) -> Iterator[Step]:
    """Walk from start.latents along the scheduler's levels, yielding after every model call.

    With several windows each is a call of its own, and their predictions are blended. A second-order solver calls
    the model twice a step. options: eta and the like, for a solver that knows them. The last step's latents are the
    result, with the kept part of a mask put back.
    """
    dtype, no_gradients = start.latents.dtype, torch.no_grad if predictor.needs_grad else torch.inference_mode
    windows = start.windows or (Window(0, 0, *start.latents.shape[-2:]),)
    calls, x0, i = len(windows), None, 0
    with no_gradients():
        scheduler.begin(start.latents, generators, options)
        latents = scheduler.latents.to(dtype)
    while scheduler.running:
        count, t = _count(scheduler, sampler, i), scheduler.timesteps[i]
        outputs, plain = Blend(windows), Blend(windows)
        for number, window in enumerate(windows, 1):
            with no_gradients():
                output = predictor(window.of(latents), t, i, count)
                outputs.add(window, output)
                if scheduler.paired:
                    unguided = getattr(predictor, "unconditional", None)
                    plain.add(window, output if unguided is None else unguided)
            if number < calls:
                yield Step(i * calls + number, count * calls, latents, x0)
        with no_gradients():
            latents, x0 = _stepped(scheduler, start, i, outputs, plain, (i + 1) / count)
        i += 1
        done = count if scheduler.running else i
        yield Step(i * calls, done * calls, latents, x0)


def _stepped(scheduler: SigmaWalk | LibraryWalk, start: Start, index: int, outputs: Blend, plain: Blend,
             progress: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Take a call's output: the latents after it, as the model takes them, and x0.

    plain: the output without the prompt, for a solver that wants both.
    """
    level, x = scheduler.level(index), scheduler.latents
    output = outputs.result(x.dtype).to(x.dtype)
    x0 = level.x0(output, x)
    if start.mask is not None:
        # x0 is what is put back, not x_t: a multistep solver's history stays consistent that way.
        x0 = _keep(start, x0, progress)
        output = level.output(x0, x)
    answer = x0
    if scheduler.paired:
        unguided = level.x0(plain.result(x.dtype).to(x.dtype), x)
        answer = x0, unguided if start.mask is None else _keep(start, unguided, progress)
    latents = scheduler.advance(output if isinstance(scheduler, LibraryWalk) else answer).to(start.latents.dtype)
    if start.mask is not None and not scheduler.running:
        latents = _keep(start, latents, 1.0)
    return latents, x0


def _count(scheduler: SigmaWalk | LibraryWalk, sampler: str, index: int) -> int:
    """How many calls the run takes; where that is not known, at least one more than were made."""
    return max(samplers.ADAPTIVE_CALLS, index + 2) if scheduler.adaptive else len(scheduler.timesteps)


def _keep(start: Start, x: torch.Tensor, progress: float) -> torch.Tensor:
    """Put the original back where the mask keeps it.

    A soft mask opens with the steps: a place of weight m is free for the last m of them (Levin & Fried 2023,
    arXiv:2306.00950), so that grey changes less than white.
    """
    weight = (start.mask > 1 - progress).to(x.dtype) if start.soft else start.mask
    return start.original * (1 - weight) + x * weight
