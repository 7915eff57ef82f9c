"""DPM-Solver++: exponential integrators that are exact in the linear part of the flow, for the ODE and the SDE.

Lu et al. 2022, "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models" (arXiv:2211.01095,
here called DPM++). With lambda = -log sigma and h = lambda' - lambda its first order is

    x' = e^-h x + (1 - e^-h) x0                                                                                 (1)

and the higher ones estimate how x0 changes along lambda. eta: share of the SDE's noise, 0 for the ODE.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from .walk import Noise, Walk, log_snr, phi_2, phi_3, split

if TYPE_CHECKING:
    from torch import Tensor

HALF = 0.5  # where in the step, along lambda, the single-step solvers ask a second time


def towards(x: Tensor, x0: Tensor, sigma: float, after: float) -> Tensor:
    """Equation (1): the exact step of a flow whose x0 stays as it is. e^-h = sigma' / sigma."""
    share = after / sigma
    return x * share + x0 * (1 - share)


def dpmpp_2s_ancestral(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0,
                       s_noise: float = 1.0) -> Walk:
    """Take x0 from the middle of the step (DPM++ algorithm 1, r = 1/2), and add fresh noise after it."""
    for sigma, after in pairwise(sigmas):
        down, up = split(sigma, after, eta)
        x0 = yield x, sigma
        if down:
            middle = math.exp(-_between(sigma, down))
            x0 = yield towards(x, x0, sigma, middle), middle
        x = towards(x, x0, sigma, down)
        if up:
            x = x + noise(sigma, after) * (s_noise * up)
    return x


def _between(sigma: float, after: float, r: float = HALF) -> float:
    """lambda at a share r of the step."""
    return log_snr(sigma) + r * (log_snr(after) - log_snr(sigma))


def dpmpp_sde(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0, s_noise: float = 1.0,
              r: float = HALF) -> Walk:
    """Ask again at a share r of the step, noise added on the way to both (DPM++ algorithm 1, with the SDE of sec. 6).

    The x0 of the step is (1 - 1 / 2r) x0 + 1 / 2r x0(middle).
    """
    share = 1 / (2 * r)
    for sigma, after in pairwise(sigmas):
        x0 = yield x, sigma
        if after == 0:
            return x0
        middle = math.exp(-_between(sigma, after, r))
        down, up = split(sigma, middle, eta)
        ahead = towards(x, x0, sigma, down)
        if up:
            ahead = ahead + noise(sigma, middle) * (s_noise * up)
        x0_middle = yield ahead, middle
        down, up = split(sigma, after, eta)
        x = towards(x, x0 * (1 - share) + x0_middle * share, sigma, down)
        if up:
            x = x + noise(sigma, after) * (s_noise * up)
    return x


def dpmpp_2m(x: Tensor, sigmas: Sequence[float], noise: Noise) -> Walk:
    """Carry x0 on along the line through this step's and the last step's (DPM++ algorithm 2)."""
    last_x0, last_h = None, 0.0
    for sigma, after in pairwise(sigmas):
        x0 = yield x, sigma
        if after == 0:
            return x0
        h = math.log(sigma / after)
        line = x0 if last_x0 is None else x0 + (x0 - last_x0) * (h / (2 * last_h))
        x = towards(x, line, sigma, after)
        last_x0, last_h = x0, h
    return x


def dpmpp_2m_sde(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0, s_noise: float = 1.0,
                 heun: bool = False) -> Walk:
    """Solve the SDE with x0 on the line through this step's and the last step's (DPM++ sec. 6, SDE-DPM-Solver++(2M)).

    heun: integrate the line exactly, where the midpoint's form takes its value at the middle.
    """
    last_x0, last_h = None, 0.0
    for sigma, after in pairwise(sigmas):
        x0 = yield x, sigma
        if after == 0:
            return x0
        h = math.log(sigma / after)
        full = h * (1 + eta)
        x = x * math.exp(-full) - x0 * math.expm1(-full)
        if last_x0 is not None:
            weight = full * phi_2(-full) if heun else -math.expm1(-full) / 2
            x = x + (x0 - last_x0) * (weight * h / last_h)
        x = _with_noise(x, sigma, after, h, eta, s_noise, noise)
        last_x0, last_h = x0, h
    return x


def _with_noise(x: Tensor, sigma: float, after: float, h: float, eta: float, s_noise: float, noise: Noise) -> Tensor:
    """Add the SDE's noise over a step: sigma'^2 (1 - e^(-2 eta h)) of variance."""
    if not eta or not s_noise:
        return x
    return x + noise(sigma, after) * (after * math.sqrt(-math.expm1(-2 * h * eta)) * s_noise)


def dpmpp_3m_sde(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0, s_noise: float = 1.0) -> Walk:
    """Solve the SDE with x0 on the parabola through the last three (the multistep form of DPM++ sec. 6, third order).

    x' = e^-H x + (1 - e^-H) x0 + H phi_2(-H) D1 + H phi_3(-H) D2 with H = (1 + eta) h, where D1 and D2 are the first
    and second differences of x0 along lambda at this step, in units of h.
    """
    x0s: list[Tensor] = []  # newest first
    hs: list[float] = []
    for sigma, after in pairwise(sigmas):
        x0 = yield x, sigma
        if after == 0:
            return x0
        h = math.log(sigma / after)
        full = h * (1 + eta)
        x = x * math.exp(-full) - x0 * math.expm1(-full)
        if x0s:
            first = (x0 - x0s[0]) * (h / hs[0])
            if len(x0s) > 1:
                r0, r1 = hs[0] / h, hs[1] / h
                bend = first - (x0s[0] - x0s[1]) / r1
                first = first + bend * (r0 / (r0 + r1))
                x = x + bend * (full * phi_3(-full) / (r0 + r1))
            x = x + first * (full * phi_2(-full))
        x = _with_noise(x, sigma, after, h, eta, s_noise, noise)
        x0s, hs = [x0, *x0s[:1]], [h, *hs[:1]]
    return x
