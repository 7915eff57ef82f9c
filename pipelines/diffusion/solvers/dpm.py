"""DPM-Solver with singles steps of changing order: a fixed number of calls, or as many as an error bound takes.

Lu et al. 2022, "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10 Steps"
(arXiv:2206.00927), in sigma space, where alpha is 1 and lambda = -log sigma. They predict noise, and end above 0.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from .walk import Noise, Walk, slope, split

if TYPE_CHECKING:
    from torch import Tensor

NEAR_END = 1e-5  # of lambda


def _asked(x: Tensor, lambda_: float) -> Generator[tuple[Tensor, float], Tensor, Tensor]:
    """Predict the noise at lambda."""
    sigma = math.exp(-lambda_)
    return slope(x, (yield x, sigma), sigma)


def _first(x: Tensor, eps: Tensor, here: float, there: float) -> Tensor:
    """DPM-Solver-1, eq. 3.7: x - sigma' (e^h - 1) eps."""
    return x - eps * (math.exp(-there) * math.expm1(there - here))


def _second(x: Tensor, eps: Tensor, eps_1: Tensor, here: float, there: float, r: float) -> Tensor:
    """DPM-Solver-2 (algorithm 4), where eps_1 is the noise at a share r of the step."""
    h = there - here
    return _first(x, eps, here, there) - (eps_1 - eps) * (math.exp(-there) / (2 * r) * math.expm1(h))


def _third(x: Tensor, eps: Tensor, eps_1: Tensor, here: float, there: float, r1: float = 1 / 3,
           r2: float = 2 / 3) -> Walk:
    """DPM-Solver-3 (algorithm 2). Asks once more, at a share r2 of the step."""
    h = there - here
    level = here + r2 * h
    bend = (math.expm1(r2 * h) / (r2 * h) - 1) * r2 / r1
    u2 = _first(x, eps, here, level) - (eps_1 - eps) * (math.exp(-level) * bend)
    eps_2 = yield from _asked(u2, level)
    return _first(x, eps, here, there) - (eps_2 - eps) * (math.exp(-there) / r2 * (math.expm1(h) / h - 1))


def _noisy(here: float, there: float, end: float, eta: float) -> tuple[float, float]:
    """Where in lambda to walk to, and how much fresh noise follows."""
    if not eta:
        return there, 0.0
    down, _ = split(math.exp(-here), math.exp(-there), eta)
    down_at = min(end, -math.log(down)) if down else end
    return down_at, math.sqrt(max(0.0, math.exp(-2 * there) - math.exp(-2 * down_at)))


def _ends(sigmas: Sequence[float]) -> tuple[float, float]:
    above = [level for level in sigmas if level > 0]
    return -math.log(above[0]), -math.log(above[-1])


def dpm_fast(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 0.0, s_noise: float = 1.0) -> Walk:
    """Take as many calls as there are steps, in steps of third order and a last one or two of lower (DPM-Solver-fast).

    arXiv:2206.00927, sec. 3.4. Of sigmas only the highest and the lowest above 0 and their number count.
    """
    start, end = _ends(sigmas)
    calls = len(sigmas) - 1
    steps = calls // 3 + 1
    orders = [3] * (steps - 2) + [2, 1] if calls % 3 == 0 else [3] * (steps - 1) + [calls % 3]
    levels = [start + (end - start) * i / len(orders) for i in range(len(orders) + 1)]
    for (here, there), order in zip(pairwise(levels), orders, strict=True):
        down, up = _noisy(here, there, end, eta)
        eps = yield from _asked(x, here)
        if order == 1:
            x = _first(x, eps, here, down)
        else:
            r = 1 / 2 if order == 2 else 1 / 3
            level = here + r * (down - here)
            eps_1 = yield from _asked(_first(x, eps, here, level), level)
            x = _second(x, eps, eps_1, here, down, r) if order == 2 else (
                yield from _third(x, eps, eps_1, here, down))
        if up:
            x = x + noise(math.exp(-here), math.exp(-there)) * (s_noise * up)
    return x


def dpm_adaptive(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 0.0, s_noise: float = 1.0,
                 rtol: float = 0.05, atol: float = 0.0078, first_h: float = 0.05, safety: float = 0.81) -> Walk:
    """Choose each step's length by the difference of its second and third order (DPM-Solver-12/23, sec. 3.4).

    Both orders share their calls, three a step. A step is kept where the growth that the error allows is at least
    `safety`, and the next is that much longer, smoothed by 1 + arctan(growth - 1): a controller of the integral of the
    error (Soederlind 2003). It reads the error back from the device after each step.
    """
    import torch

    start, end = _ends(sigmas)
    here, h, lower = start, first_h, x
    order = 1.5 if eta else 3
    while here < end - NEAR_END:
        there = min(end, here + h)
        down, up = _noisy(here, there, end, eta)
        eps = yield from _asked(x, here)
        level = here + (down - here) / 3
        eps_1 = yield from _asked(_first(x, eps, here, level), level)
        low = _second(x, eps, eps_1, here, down, 1 / 3)
        high = yield from _third(x, eps, eps_1, here, down)
        bound = torch.clamp(rtol * torch.maximum(low.abs(), lower.abs()), min=atol)
        error = float(torch.linalg.vector_norm((low - high) / bound)) / math.sqrt(x.numel())
        growth = 1 + math.atan((1 / (error + 1e-8)) ** (1 / order) - 1)
        h *= growth
        if growth < safety:
            continue
        lower = low
        x = high if not up else high + noise(math.exp(-here), math.exp(-there)) * (s_noise * up)
        here = there
    return x
