"""Linear multistep solvers: the slope of a step is a polynomial through this step's and earlier ones'.

x' = x + integral of the polynomial over the step. They ask once a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .walk import Noise, Walk, slope

if TYPE_CHECKING:
    from torch import Tensor

LMS_ORDER = IPNDM_ORDER = 4
DEIS_ORDER = 3
# Adams-Bashforth for steps of equal length, newest slope first (Hairer, Norsett & Wanner 1993, sec. III.1, table 1.1).
EVEN = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)


def _combined(slopes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = slopes[0] * weights[0]
    for d, weight in zip(slopes[1:], weights[1:], strict=True):
        total = total + d * weight
    return total


def lagrange_integrals(nodes: Sequence[float], begin: float, end: float,
                       density: Callable[[np.ndarray], np.ndarray] | None = None) -> list[float]:
    """Integrate each Lagrange basis polynomial of `nodes` from begin to end, times a density, by Gauss's quadrature."""
    at = begin + (end - begin) / 2 * (_NODES + 1)
    weights = (end - begin) / 2 * _WEIGHTS
    if density is not None:
        weights = weights * density(at)
    result = []
    for j, node in enumerate(nodes):
        basis = np.ones_like(at)
        for k, other in enumerate(nodes):
            if k != j:
                basis = basis * (at - other) / (node - other)
        result.append(float((basis * weights).sum()))
    return result


def lms(x: Tensor, sigmas: Sequence[float], noise: Noise, order: int = LMS_ORDER) -> Walk:
    """Adams-Bashforth for steps of any length, as a polynomial in sigma (Katherine Crowson's LMS, k-diffusion 2022)."""
    slopes: list[Tensor] = []
    for i, (sigma, after) in enumerate(pairwise(sigmas)):
        slopes = [slope(x, (yield x, sigma), sigma), *slopes[:order - 1]]
        nodes = [sigmas[i - k] for k in range(len(slopes))]
        x = x + _combined(slopes, lagrange_integrals(nodes, sigma, after))
    return x


def ipndm(x: Tensor, sigmas: Sequence[float], noise: Noise, order: int = IPNDM_ORDER, ends_at_x0: bool = False) -> Walk:
    """Adams-Bashforth with the weights of equal steps, whatever the steps are (iPNDM of arXiv:2204.13902).

    ends_at_x0: take the step to 0 by x0 alone.
    """
    slopes: list[Tensor] = []
    for sigma, after in pairwise(sigmas):
        x0 = yield x, sigma
        if after == 0 and ends_at_x0:
            return x0
        slopes = [slope(x, x0, sigma), *slopes[:order - 1]]
        x = x + _combined(slopes, EVEN[len(slopes) - 1]) * (after - sigma)
    return x


def ipndm_v(x: Tensor, sigmas: Sequence[float], noise: Noise, order: int = IPNDM_ORDER,
            ends_at_x0: bool = False) -> Walk:
    """Adams-Bashforth with weights of the steps' lengths, in the form that carries this name (see _varying)."""
    slopes: list[Tensor] = []
    for i, (sigma, after) in enumerate(pairwise(sigmas)):
        x0 = yield x, sigma
        if after == 0 and ends_at_x0:
            return x0
        slopes = [slope(x, x0, sigma), *slopes[:order - 1]]
        lengths = [sigmas[i - k + 1] - sigmas[i - k] for k in range(len(slopes))]
        x = x + _combined(slopes, _varying(lengths)) * (after - sigma)
    return x


def _varying(lengths: Sequence[float]) -> list[float]:
    """Weights of the newest slopes, for steps of these lengths, newest first.

    The slope is a sum of backward differences, d + a1 D1 + a2 D2 + a3 D3 with D1 = d - d1, D2 = D1 - (h / h1 of the
    older ones) and so on. For equal lengths these are EVEN's weights; else a2 and the last weight are not the
    polynomial's, but what the name's published code computes.
    """
    h = lengths[0]
    if len(lengths) == 1:
        return [1.0]
    h1 = lengths[1]
    a1 = h / h1 / 2
    if len(lengths) == 2:
        return [1 + a1, -a1]
    h2 = lengths[2]
    a2 = (1 - h**2 / (3 * h1 * (h1 + h2))) / 2
    q = h1 / h2
    three = [1 + a1 + a2, -a1 - (1 + q) * a2, q * a2]
    if len(lengths) == 3:
        return three
    h3 = lengths[3]
    inner = (1 - h / (3 * (h + h1))) / 2 + (1 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2))
    a3 = inner * h * (h + h1) * (h + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3))
    p = h1 * (h1 + h2) / (h2 * (h2 + h3))
    return [three[0] + a3, three[1] - (1 + q + p) * a3, three[2] + (q + p * (1 + h2 / h3)) * a3, -p * q * a3]


# The variance-preserving process in whose time DEIS draws its polynomials: beta(t) = beta_d t + beta_min, with these
# levels at t = 0.001 and t = 1 (EDM table 1, column "VP", and its sigma_min and sigma_max).
_EARLY, _LOWEST, _HIGHEST = 1e-3, 0.002, 80.0
_BETA_D = 2 * (math.log(_LOWEST**2 + 1) / _EARLY - math.log(_HIGHEST**2 + 1)) / (_EARLY - 1)
_BETA_MIN = math.log(_HIGHEST**2 + 1) - _BETA_D / 2


def _vp_time(sigma: float) -> float:
    """t of sigma^2 + 1 = exp(beta_d t^2 / 2 + beta_min t) (EDM table 1)."""
    return (math.sqrt(_BETA_MIN**2 + 2 * _BETA_D * math.log(sigma**2 + 1)) - _BETA_MIN) / _BETA_D


def _vp_sigma_rate(t: np.ndarray) -> np.ndarray:
    """dsigma / dt of the same process."""
    grown = np.exp(_BETA_D * t**2 / 2 + _BETA_MIN * t)
    return (_BETA_D * t + _BETA_MIN) * grown / (2 * np.sqrt(grown - 1))


@cache
def _deis_weights(levels: tuple[float, ...], after: float) -> tuple[float, ...]:
    times = [_vp_time(level) for level in levels]
    return tuple(lagrange_integrals(times, times[0], _vp_time(after), _vp_sigma_rate))


def deis(x: Tensor, sigmas: Sequence[float], noise: Noise, order: int = DEIS_ORDER) -> Walk:
    """Draw the slope's polynomial in the time of a variance-preserving process and integrate it there.

    Zhang & Chen 2023, "Fast Sampling of Diffusion Models with Exponential Integrator" (arXiv:2204.13902), tAB-DEIS.
    The step to 0 is x0 itself.
    """
    slopes: list[Tensor] = []
    for i, (sigma, after) in enumerate(pairwise(sigmas)):
        x0 = yield x, sigma
        if after == 0:
            return x0
        slopes = [slope(x, x0, sigma), *slopes[:order - 1]]
        levels = tuple(sigmas[i - k] for k in range(len(slopes)))
        x = x + _combined(slopes, _deis_weights(levels, after))
    return x


def plms(x: Tensor, sigmas: Sequence[float], noise: Noise) -> Walk:
    """Pseudo linear multistep: slopes in the noise, weighed as in equal steps; the first step asks twice, as Heun does.

    Liu et al. 2022, "Pseudo Numerical Methods for Diffusion Models on Manifolds" (arXiv:2202.09778), eq. 12 and 13; the
    way from level to level is DDIM's, a straight line in sigma space. Returns latents with unit variance, as `ddim`.
    """
    slopes: list[Tensor] = []
    for sigma, after in pairwise(sigmas):
        d = slope(x, (yield x, sigma), sigma)
        if not slopes and after > 0:
            ahead = x + d * (after - sigma)
            mean = (d + slope(ahead, (yield ahead, after), after)) / 2
        else:
            mean = _combined([d, *slopes], EVEN[len(slopes)])
        x = x + mean * (after - sigma)
        slopes = [d, *slopes[:IPNDM_ORDER - 2]]
    return x / math.sqrt(1 + sigmas[-1] ** 2)


def gradient_estimation(x: Tensor, sigmas: Sequence[float], noise: Noise, gamma: float = 2.0) -> Walk:
    """Overshoot the slope's change: d' = gamma d + (1 - gamma) d1 (Permenter & Yuan 2023, arXiv:2306.04848)."""
    last = None
    for sigma, after in pairwise(sigmas):
        x0 = yield x, sigma
        if after == 0:
            return x0
        d = slope(x, x0, sigma)
        x = x + (d if last is None else d * gamma + last * (1 - gamma)) * (after - sigma)
        last = d
    return x
