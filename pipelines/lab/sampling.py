"""From noise to picture: the ancestral sampler of DDPM and the implicit one of DDIM, written out from the equations.

DDPM: Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv:2006.11239). DDIM: Song et al. 2021, "Denoising
Diffusion Implicit Models" (arXiv:2010.02502). Both only ask a denoiser for x0, so whatever changes its answer (class
guidance here, every loss in guidance.py) goes with both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from ..diffusion.guidance import classifier_free
from ..diffusion.noise_level import Prediction, read_prediction
from ..diffusion.noise_schedules import Schedule, added_variance, posterior
from ..errors import RequestError

LastOf = TypeVar("LastOf")
Spacing = Literal["trailing", "leading"]


@dataclass(frozen=True)
class Level:
    """Where on the way a picture is: x = alpha x0 + sigma eps. t: the timestep the network is told."""

    t: int | float
    alpha: float
    sigma: float

    @property
    def pair(self) -> tuple[float, float]:
        return self.alpha, self.sigma


CLEAN = Level(-1, 1.0, 0.0)
Denoiser = Callable[[Tensor, Level], Tensor]  # (x_t: (b, c, h, w), level) -> predicted x0 of the same shape


@dataclass(frozen=True)
class State:
    """One step of a sampler, for a film strip. step counts from 1; view: what was predicted of x_t; x: where it led."""

    step: int
    steps: int
    level: Level
    view: Prediction
    x: Tensor


def ddpm(denoiser: Denoiser, schedule: Schedule, x: Tensor, generators: Sequence[torch.Generator]) -> Iterator[State]:
    """Walk back through all T steps (DDPM algorithm 2, with the smaller variance of eq. 7).

    x: (b, c, h, w) unit noise. generators: one a picture, for the noise that each step adds.
    """
    levels = [*_levels(schedule, range(len(schedule) - 1, -1, -1)), CLEAN]
    for i, (now, before) in enumerate(zip(levels, levels[1:], strict=False)):
        with torch.no_grad():
            seen = _look(denoiser, x, now)
            x, variance = posterior(seen.x0, x, now.pair, before.pair)                        # eq. 6, 7
            if before is not CLEAN:
                x = x + variance**0.5 * noise_like(x, generators)
        yield State(i + 1, len(schedule), now, seen, x)


def ddim(denoiser: Denoiser, schedule: Schedule, x: Tensor, generators: Sequence[torch.Generator], steps: int,
         eta: float = 0.0, spacing: Spacing = "trailing") -> Iterator[State]:
    """Walk back in `steps` strides (DDIM eq. 12).

    eta: share of the ancestral noise, 0 (none: the same noise always gives the same picture) to 1 (as much as DDPM).
    """
    levels = [*_levels(schedule, strides(len(schedule), steps, spacing)), CLEAN]
    for i, (now, before) in enumerate(zip(levels, levels[1:], strict=False)):
        with torch.no_grad():
            seen = _look(denoiser, x, now)
            variance = (eta * before.sigma / now.sigma) ** 2 * added_variance(now.pair, before.pair)     # eq. 16
            x = before.alpha * seen.x0 + max(0.0, before.sigma**2 - variance) ** 0.5 * seen.eps          # eq. 12
            if variance > 0:
                x = x + variance**0.5 * noise_like(x, generators)
        yield State(i + 1, steps, now, seen, x)


def last(states: Iterator[LastOf]) -> LastOf:
    """Walk to the end and return the last state."""
    *_, state = states
    return state


def strides(timesteps: int, steps: int, spacing: Spacing = "trailing") -> list[int]:
    """Timesteps to visit, noisiest first: "trailing" begins with the last, "leading" ends with the first.

    The two as compared by Lin et al. 2023 (arXiv:2305.08891, table 2).
    """
    if not 1 <= steps <= timesteps:
        raise RequestError(f"Steps: {steps} is not possible. The model has {timesteps} timesteps.", "steps")
    if spacing == "leading":
        return [i * (timesteps // steps) for i in reversed(range(steps))]
    return [round(timesteps - i * timesteps / steps) - 1 for i in range(steps)]


def _levels(schedule: Schedule, timesteps: Sequence[int]) -> list[Level]:
    return [Level(t, float(schedule.alpha[t]), float(schedule.sigma[t])) for t in timesteps]


def _look(denoiser: Denoiser, x: Tensor, level: Level) -> Prediction:
    return read_prediction("x0", denoiser(x, level), x, level.alpha, level.sigma)


def noise_like(x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Unit noise (b, c, h, w), one CPU generator a picture, so that a picture does not depend on its neighbours."""
    return torch.stack([torch.randn(x.shape[1:], generator=one) for one in generators]).to(x)


# ---------------------------------------------------------------------------------------------------------- denoisers
def denoiser_of(network: nn.Module, prediction: str, context: Tensor | None = None, guidance_scale: float = 1.0,
                clip: bool = True, nothing: Tensor | None = None) -> Denoiser:
    """A network as a denoiser. clip: keep x0 within -1..1, which is where pictures are.

    context: (b, ...) class weights or text states, or None without. nothing: the context that asks for nothing (...),
    zeros when left out. guidance_scale: w of Ho & Salimans 2022
    ("Classifier-Free Diffusion Guidance", arXiv:2207.12598, eq. 6) as nothing + w (class - nothing), so that 1 is
    none; the same combination may be taken of x0, since x0 is linear in the prediction.
    """
    guided = context is not None and guidance_scale != 1
    if guided:
        empty = torch.zeros_like(context) if nothing is None else nothing.to(context).expand_as(context)

    def denoise(x: Tensor, level: Level) -> Tensor:
        halves = 2 if guided else 1
        told = torch.cat([empty, context]) if guided else context
        x_t = torch.cat([x] * halves)
        t = torch.full((len(x_t),), level.t, device=x.device)
        x0 = read_prediction(prediction, network(x_t, t, told), x_t, level.alpha, level.sigma).x0
        if guided:
            nothing, wanted = x0.chunk(2)
            x0 = classifier_free(nothing, wanted, guidance_scale)
        return x0.clamp(-1, 1) if clip else x0

    return denoise


def mixed_context(weights: Mapping[int, float], classes: int, count: int) -> Tensor:
    """Context vectors (count, classes) that blend classes: {3: 0.5, 8: 0.5} asks for something between 3 and 8."""
    context = torch.zeros(count, classes)
    for label, weight in weights.items():
        if not 0 <= label < classes:
            raise RequestError(f"Class: {label} is not possible. The model has classes 0 to {classes - 1}.", "label")
        context[:, label] = weight
    return context
