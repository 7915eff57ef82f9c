"""Solvers for models that were distilled to answer in a few steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from .walk import Noise, Walk, slope

if TYPE_CHECKING:
    from torch import Tensor


def lcm(x: Tensor, sigmas: Sequence[float], noise: Noise, s_noise: float = 1.0) -> Walk:
    """Take x0 and put all of the next level's noise on it anew.

    Luo et al. 2023, "Latent Consistency Models" (arXiv:2310.04378), algorithm 3.
    """
    for sigma, after in pairwise(sigmas):
        x = yield x, sigma
        if after > 0:
            x = x + noise(sigma, after) * (s_noise * after)
    return x


def tcd(x: Tensor, sigmas: Sequence[float], noise: Noise, below: Callable[[float], float] = lambda level: 0.7 * level,
        s_noise: float = 1.0) -> Walk:
    """Walk the flow to a level below the next one, and put fresh noise on up to it.

    Zheng et al. 2024, "Trajectory Consistency Distillation" (arXiv:2402.19159), strategic stochastic
    sampling. below: the lower level s = (1 - gamma) t of each level, in the model's own time.
    """
    for sigma, after in pairwise(sigmas):
        down = min(after, below(after)) if after > 0 else 0.0
        d = slope(x, (yield x, sigma), sigma)
        x = x + d * (down - sigma)
        if down < after:
            x = x + noise(sigma, after) * (s_noise * math.sqrt(after**2 - down**2))
    return x
