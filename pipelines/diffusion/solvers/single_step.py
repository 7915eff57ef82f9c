"""Solvers that forget each step: Euler, Heun, midpoint, and those with fresh noise after the step.

eta: share of fresh noise after a step, 0 for the ODE. s_noise: what fresh noise is multiplied by. s_churn, s_tmin,
s_tmax: noise added before a step (EDM algorithm 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from ..sigma_schedules import karras_levels
from .walk import Noise, Walk, churned, slope, split

if TYPE_CHECKING:
    from torch import Tensor


def euler(x: Tensor, sigmas: Sequence[float], noise: Noise, s_churn: float = 0.0, s_tmin: float = 0.0,
          s_tmax: float = math.inf, s_noise: float = 1.0) -> Walk:
    """Follow the slope at the step's start: x + (sigma' - sigma) d (EDM algorithm 2 without its second order)."""
    for sigma, after in pairwise(sigmas):
        x, sigma = churned(x, sigma, len(sigmas) - 1, noise, s_churn, s_tmin, s_tmax, s_noise)
        d = slope(x, (yield x, sigma), sigma)
        x = x + d * (after - sigma)
    return x


def euler_ancestral(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Walk:
    """Walk Euler's way below the next level and add fresh noise up to it.

    In sigma space this is DDPM's posterior (arXiv:2006.11239, eq. 7) for eta 1 and DDIM (arXiv:2010.02502, eq. 12 and
    16) for any eta.
    """
    for sigma, after in pairwise(sigmas):
        down, up = split(sigma, after, eta)
        d = slope(x, (yield x, sigma), sigma)
        x = x + d * (down - sigma)
        if up:
            x = x + noise(sigma, after) * (s_noise * up)
    return x


def ddim(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 0.0, s_noise: float = 1.0) -> Walk:
    """Walk DDIM's way and return the latents with unit variance, as a walk that ends above 0 leaves them.

    Song et al. 2020 (arXiv:2010.02502, eq. 12); sqrt(abar) = 1 / sqrt(1 + sigma^2).
    """
    x = yield from euler_ancestral(x, sigmas, noise, eta, s_noise)
    return x / math.sqrt(1 + sigmas[-1] ** 2)


def heun(x: Tensor, sigmas: Sequence[float], noise: Noise, s_churn: float = 0.0, s_tmin: float = 0.0,
         s_tmax: float = math.inf, s_noise: float = 1.0) -> Walk:
    """Follow the mean of the slopes at both ends of the step (EDM algorithm 2); the step to 0 is Euler's."""
    for sigma, after in pairwise(sigmas):
        x, sigma = churned(x, sigma, len(sigmas) - 1, noise, s_churn, s_tmin, s_tmax, s_noise)
        x = yield from _heun_step(x, sigma, after)
    return x


def _heun_step(x: Tensor, sigma: float, after: float) -> Walk:
    d = slope(x, (yield x, sigma), sigma)
    ahead = x + d * (after - sigma)
    if after == 0:
        return ahead
    d_after = slope(ahead, (yield ahead, after), after)
    return x + (d + d_after) * ((after - sigma) / 2)


def heunpp2(x: Tensor, sigmas: Sequence[float], noise: Noise, s_churn: float = 0.0, s_tmin: float = 0.0,
            s_tmax: float = math.inf, s_noise: float = 1.0) -> Walk:
    """Weigh the slopes of up to three levels ahead: each counts sigma_k / (n sigma_0), the first what is left of 1.

    n is how many levels are looked at: 3, but 2 in the last step but one, and 1 in the step to 0. "Heun++".
    """
    last = len(sigmas) - 1
    for i, (sigma, after) in enumerate(pairwise(sigmas)):
        x, sigma = churned(x, sigma, last, noise, s_churn, s_tmin, s_tmax, s_noise)
        ahead = [level for level in sigmas[i + 1:i + 3] if level > 0]
        if after == 0:
            ahead = []
        slopes = [slope(x, (yield x, sigma), sigma)]
        here, level = x, sigma
        for following in ahead:
            here = here + slopes[-1] * (following - level)
            level = following
            slopes.append(slope(here, (yield here, level), level))
        weights = [level / ((1 + len(ahead)) * sigmas[0]) for level in ahead]
        mean = slopes[0] * (1 - sum(weights))
        for weight, d in zip(weights, slopes[1:], strict=True):
            mean = mean + d * weight
        x = x + mean * (after - sigma)
    return x


def dpm_2(x: Tensor, sigmas: Sequence[float], noise: Noise, s_churn: float = 0.0, s_tmin: float = 0.0,
          s_tmax: float = math.inf, s_noise: float = 1.0) -> Walk:
    """Follow the slope at the middle of the step, in the logarithm of sigma (after DPM-Solver-2, arXiv:2206.00927)."""
    for sigma, after in pairwise(sigmas):
        x, sigma = churned(x, sigma, len(sigmas) - 1, noise, s_churn, s_tmin, s_tmax, s_noise)
        x = yield from _midpoint_step(x, sigma, after)
    return x


def dpm_2_ancestral(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Walk:
    """Walk dpm_2's way below the next level and add fresh noise up to it."""
    for sigma, after in pairwise(sigmas):
        down, up = split(sigma, after, eta)
        x = yield from _midpoint_step(x, sigma, down)
        if up:
            x = x + noise(sigma, after) * (s_noise * up)
    return x


def _midpoint_step(x: Tensor, sigma: float, after: float) -> Walk:
    d = slope(x, (yield x, sigma), sigma)
    if after == 0:
        return x + d * (after - sigma)
    middle = math.sqrt(sigma * after)
    half = x + d * (middle - sigma)
    return x + slope(half, (yield half, middle), middle) * (after - sigma)


RESTART_FROM, RESTART_TWICE_FROM = 20, 36  # steps
RESTART_LOW, RESTART_HIGH = 0.1, 2.0  # levels between which the walk is repeated


def restart(x: Tensor, sigmas: Sequence[float], noise: Noise, s_noise: float = 1.0) -> Walk:
    """Walk Heun's way, and from a low level go back up with fresh noise and walk that part again.

    Xu et al. 2023, "Restart Sampling for Improving Generative Processes" (arXiv:2306.14878), algorithm 1, with levels
    of its own from 20 steps on, so that all the steps together are as many as asked.
    """
    level = None
    for sigma, after in restart_steps(sigmas):
        if level is not None and level < sigma:
            x = x + noise(level, sigma) * (s_noise * math.sqrt(sigma**2 - level**2))
        x = yield from _heun_step(x, sigma, after)
        level = after
    return x


def restart_steps(sigmas: Sequence[float]) -> list[tuple[float, float]]:
    """The steps (from, to) of `restart`: Karras' levels, with the part from 2 down to 0.1 walked once or twice more.

    Below 20 steps, or where the levels do not end in 0, these are the given ones.
    """
    steps = len(sigmas) - 1
    if steps < RESTART_FROM or sigmas[-1] != 0:
        return list(pairwise(sigmas))
    times, again = (1, 9) if steps < RESTART_TWICE_FROM else (2, steps // 4)
    own = [*karras_levels(steps - again * times, sigmas[-2], sigmas[0]), 0.0]
    low = min(range(len(own)), key=lambda i: abs(own[i] - RESTART_LOW))
    high = min(range(len(own)), key=lambda i: abs(own[i] - RESTART_HIGH))
    walk = list(pairwise(own[:low + 1]))
    if high < low:
        walk += list(pairwise(karras_levels(again + 1, own[low], own[high]))) * times
    return walk + list(pairwise(own[low:]))
