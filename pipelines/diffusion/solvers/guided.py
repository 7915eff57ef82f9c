"""Solvers that walk towards the guided x0 and keep the unguided noise (CFG++).

Chung et al. 2024, "CFG++: Manifold-constrained Classifier Free Guidance for Diffusion Models" (arXiv:2406.08070), eq.
10 and algorithm 2: x' = x0 + sigma' eps_uncond. They are sent (x0, x0 without the prompt). Where both are the same,
each is the solver of its name without CFG++.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from .walk import Noise, Walk, phi_1, phi_2, slope, split

if TYPE_CHECKING:
    from torch import Tensor


def euler_cfg_pp(x: Tensor, sigmas: Sequence[float], noise: Noise) -> Walk:
    """Take the noise of the unguided prediction to the next level, from the guided x0 (arXiv:2406.08070, eq. 10)."""
    return euler_ancestral_cfg_pp(x, sigmas, noise, eta=0.0)


def euler_ancestral_cfg_pp(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0,
                           s_noise: float = 1.0) -> Walk:
    """Do so to below the next level, and add fresh noise up to it."""
    for sigma, after in pairwise(sigmas):
        down, up = split(sigma, after, eta)
        x0, uncond = yield x, sigma
        x = x0 + slope(x, uncond, sigma) * down
        if up:
            x = x + noise(sigma, after) * (s_noise * up)
    return x


def ddim_cfg_pp(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 0.0, s_noise: float = 1.0) -> Walk:
    """DDIM with CFG++ (arXiv:2406.08070, algorithm 2), returned with unit variance, as `ddim` does."""
    x = yield from euler_ancestral_cfg_pp(x, sigmas, noise, eta, s_noise)
    return x / math.sqrt(1 + sigmas[-1] ** 2)


def dpmpp_2s_ancestral_cfg_pp(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0,
                              s_noise: float = 1.0) -> Walk:
    """Take DPM++ 2S ancestral's step with the guidance added to x first: e^-h (x + x0 - uncond) + (1 - e^-h) x0."""
    for sigma, after in pairwise(sigmas):
        down, up = split(sigma, after, eta)
        x0, uncond = yield x, sigma
        moved = x + (x0 - uncond)
        if down:
            middle = math.sqrt(sigma * down)
            share = middle / sigma
            x0, _ = yield moved * share + x0 * (1 - share), middle
        share = down / sigma
        x = moved * share + x0 * (1 - share)
        if up:
            x = x + noise(sigma, after) * (s_noise * up)
    return x


def dpmpp_2m_cfg_pp(x: Tensor, sigmas: Sequence[float], noise: Noise) -> Walk:
    """DPM++ 2M that leaves the unguided x0 and carries on the guided one's distance to the last unguided one.

    x' = x0 + e^-h (x - uncond) + (1 - e^-h) h / (2 h_last) (x0 - uncond_last).
    """
    last, last_h = None, 0.0
    for sigma, after in pairwise(sigmas):
        x0, uncond = yield x, sigma
        if after == 0:
            return x0
        h = math.log(sigma / after)
        x = x0 + (x - uncond) * (after / sigma)
        if last is not None:
            x = x + (x0 - last) * (-math.expm1(-h) * h / (2 * last_h))
        last, last_h = uncond, h
    return x


def res_multistep_cfg_pp(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 0.0,
                         s_noise: float = 1.0) -> Walk:
    """RES multistep (see exponential.res_multistep) on the unguided x0s, with the guidance added to x first."""
    last, last_sigma, last_down = None, 0.0, 0.0
    for sigma, after in pairwise(sigmas):
        down, up = split(sigma, after, eta)
        x0, uncond = yield x, sigma
        if last is None or down == 0:
            x = x0 + slope(x, uncond, sigma) * down
        else:
            h = math.log(sigma / down)
            b2 = phi_2(-h) / (math.log(last_down / last_sigma) / h)
            moved = x + (x0 - uncond)
            x = moved * math.exp(-h) + (uncond * (phi_1(-h) - b2) + last * b2) * h
        if up:
            x = x + noise(sigma, after) * (s_noise * up)
        last, last_sigma, last_down = uncond, sigma, down
    return x


def gradient_estimation_cfg_pp(x: Tensor, sigmas: Sequence[float], noise: Noise, gamma: float = 2.0) -> Walk:
    """Gradient estimation (arXiv:2306.04848) of the unguided slope, from the guided x0."""
    last = None
    for sigma, after in pairwise(sigmas):
        x0, uncond = yield x, sigma
        if after == 0:
            return x0
        d = slope(x, uncond, sigma)
        x = x0 + d * after
        if last is not None:
            x = x + (d - last) * ((gamma - 1) * (after - sigma))
        last = d
    return x
