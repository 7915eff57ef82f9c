"""Exponential integrators beside DPM-Solver++: RES, UniPC, SEEDS, SA-Solver, and ER-SDE.

lambda = -log sigma, h = lambda' - lambda, e^-h = sigma' / sigma; x0 is what they carry on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .adams import lagrange_integrals
from .walk import Noise, Walk, log_snr, phi_1, phi_2, slope, split

if TYPE_CHECKING:
    from torch import Tensor

Scaler = Callable[[np.ndarray | float], np.ndarray | float]


def res_multistep(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 0.0, s_noise: float = 1.0) -> Walk:
    """Second-order exponential integrator on this step's and the last step's x0.

    Zhang et al. 2023, "Improved Order Analysis and Design of Exponential Integrator for Diffusion Models Sampling"
    (arXiv:2308.02157), in multistep form: x' = e^-h x + h (b1 x0 + b2 x0_last), b2 = phi_2(-h) / c2, b1 = phi_1(-h) -
    b2, with c2 h the way in lambda back to the last x0.
    """
    last_x0, last_sigma, last_down = None, 0.0, 0.0
    for sigma, after in pairwise(sigmas):
        down, up = split(sigma, after, eta)
        x0 = yield x, sigma
        if last_x0 is None or down == 0:
            x = x + slope(x, x0, sigma) * (down - sigma)
        else:
            h = math.log(sigma / down)
            c2 = math.log(last_down / last_sigma) / h
            b2 = phi_2(-h) / c2
            x = x * math.exp(-h) + (x0 * (phi_1(-h) - b2) + last_x0 * b2) * h
        if up:
            x = x + noise(sigma, after) * (s_noise * up)
        last_x0, last_sigma, last_down = x0, sigma, down
    return x


def unipc(x: Tensor, sigmas: Sequence[float], noise: Noise, order: int = 3, variant: str = "bh1",
          ends_at: float | None = None, unit_end: bool = False) -> Walk:
    """Predict with the last x0s, then correct with the new one, at no further call.

    Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models"
    (arXiv:2302.04867), its multistep form with B(h) = h ("bh1") or e^h - 1 ("bh2"). Its order falls at the end.
    ends_at: a level that stands for the 0 at the end.
    """
    levels = [*sigmas[:-1], ends_at if sigmas[-1] == 0 and ends_at else sigmas[-1]]
    steps = len(levels) - 1
    x0s: list[tuple[float, Tensor]] = []  # lambda and x0, newest first
    before, used = x, 1
    for i, (sigma, after) in enumerate(pairwise(levels)):
        x0 = yield x, sigma
        if x0s:
            x = _unified(before, levels[i - 1], sigma, x0s[:used], variant, x0)
        if after == 0:
            return x0
        x0s = [(log_snr(sigma), x0), *x0s[:order - 1]]
        used = min(order, len(x0s), steps - i)
        before = x
        x = _unified(x, sigma, after, x0s[:used], variant, None)
    return x / math.sqrt(1 + levels[-1] ** 2) if unit_end else x


def _unified(x: Tensor, sigma: float, after: float, x0s: Sequence[tuple[float, Tensor]], variant: str,
             new_x0: Tensor | None) -> Tensor:
    """One step of UniP (new_x0 None) or UniC, arXiv:2302.04867, in x0's form."""
    h = log_snr(after) - log_snr(sigma)
    begin, x0 = x0s[0]
    rates = [(level - begin) / h for level, _ in x0s[1:]] + [1.0]
    b = -h if variant == "bh1" else math.expm1(-h)
    differences = [(older - x0) / rate for (_, older), rate in zip(x0s[1:], rates, strict=False)]
    if new_x0 is not None:
        differences.append(new_x0 - x0)
    moved = x * (after / sigma) - x0 * math.expm1(-h)
    if not differences:
        return moved
    weights = _unified_weights(rates[:len(differences)], -h, b, predicts=new_x0 is None)
    for weight, difference in zip(weights, differences, strict=True):
        moved = moved - difference * (b * weight)
    return moved


def _unified_weights(rates: Sequence[float], h: float, b: float, predicts: bool) -> list[float]:
    """Solve R a = c (arXiv:2302.04867, sec. 3): a of one difference is 1/2, as the paper allows.

    c_n = n! phi_(n+1)(h) h / B; h is negative, as x0's form wants.
    """
    if len(rates) == 1 and (predicts or rates[0] == 1.0):
        return [0.5]
    phi, factorial, wanted = math.expm1(h) / h - 1, 1, []
    for n in range(1, len(rates) + 1):
        wanted.append(phi * factorial / b)
        factorial *= n + 1
        phi = phi / h - 1 / factorial
    table = [[rate ** n for rate in rates] for n in range(len(rates))]
    return np.linalg.solve(table, wanted).tolist()


def seeds_2(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0, s_noise: float = 1.0,
            r: float = 0.5) -> Walk:
    """Solve the SDE with one more call at a share r of the step.

    Gonzalez et al. 2023, "SEEDS: Exponential SDE Solvers for Fast High-Quality Sampling from Diffusion Models"
    (arXiv:2305.14267), SEEDS-2, in x0's form. The noises of both parts of the step are one path.
    """
    for sigma, after in pairwise(sigmas):
        x0 = yield x, sigma
        if after == 0:
            return x0
        h = math.log(sigma / after)
        middle = sigma * math.exp(-r * h)
        path = _Path(noise, eta, s_noise, sigma)
        x0_middle = yield path.at(x, x0, middle), middle
        share = 1 / (2 * r)
        x = path.at(x, x0 * (1 - share) + x0_middle * share, after)
    return x


def seeds_3(x: Tensor, sigmas: Sequence[float], noise: Noise, eta: float = 1.0, s_noise: float = 1.0,
            r1: float = 1 / 3, r2: float = 2 / 3) -> Walk:
    """Solve the SDE with two more calls, at shares r1 and r2 of the step (SEEDS-3, in x0's form)."""
    for sigma, after in pairwise(sigmas):
        x0 = yield x, sigma
        if after == 0:
            return x0
        h = math.log(sigma / after)
        full = h * (1 + eta)
        path = _Path(noise, eta, s_noise, sigma)
        level_1, level_2 = sigma * math.exp(-r1 * h), sigma * math.exp(-r2 * h)
        x0_1 = yield path.at(x, x0, level_1), level_1
        bend = (x0_1 - x0) * (r2 / r1 * r2 * full * phi_2(-r2 * full))
        x0_2 = yield path.at(x, x0, level_2, bend), level_2
        bend = (x0_2 - x0) * (full * phi_2(-full) / r2)
        x = path.at(x, x0, after, bend)
    return x


class _Path:
    """The SDE's noise along one step: each part adds to what the parts before it left.

    From sigma to sigma' the SDE multiplies x - x0 by (sigma' / sigma)^(1 + eta), and its noise has the variance
    sigma'^2 (1 - (sigma' / sigma)^(2 eta)).
    """

    def __init__(self, noise: Noise, eta: float, scale: float, sigma: float):
        self._noise, self._eta, self._scale = noise, eta, scale
        self._begin = self._here = sigma
        self._sum: Tensor | None = None  # of variance 1 - (here / begin)^(2 eta)

    def at(self, x: Tensor, x0: Tensor, sigma: float, bend: Tensor | None = None) -> Tensor:
        """x at a level below the last one. bend: what higher orders add."""
        share = (sigma / self._begin) ** (1 + self._eta)
        moved = x * share + x0 * (1 - share)
        if bend is not None:
            moved = moved + bend
        if not self._eta or not self._scale:
            return moved
        kept = (sigma / self._here) ** self._eta
        fresh = self._noise(self._here, sigma) * math.sqrt(1 - kept**2)
        self._sum = fresh if self._sum is None else self._sum * kept + fresh
        self._here = sigma
        return moved + self._sum * (sigma * self._scale)


def sa_solver(x: Tensor, sigmas: Sequence[float], noise: Noise, tau: Callable[[float], float] | None = None,
              s_noise: float = 1.0, predictor_order: int = 3, corrector_order: int = 4,
              asks_again: bool = False) -> Walk:
    """Stochastic Adams: predict with the last x0s, correct with the new one, noise of strength tau(sigma) in between.

    Xue et al. 2023, "SA-Solver: Stochastic Adams Solver for Fast Sampling of Diffusion Models" (arXiv:2309.05019),
    algorithm 1 with eq. 14 and 17; its orders fall towards the end, where levels are far apart. tau: None is 1
    everywhere. asks_again: evaluate once more after correcting (PECE).
    """
    x0s: list[Tensor] = []  # newest first
    lambdas: list[float] = []
    ahead, added, strength = x, None, 0.0
    for i, (sigma, after) in enumerate(pairwise(sigmas)):
        x0 = yield ahead, sigma
        x0s, lambdas = [x0, *x0s], [log_snr(sigma), *lambdas]
        left = len(sigmas) - 1 - i
        used = min(corrector_order, len(x0s), left)
        if i == 0 or (after == 0 and not asks_again):
            x = ahead
        else:
            x = _stochastic_adams(x, x0s[:used], lambdas[:used], sigmas[i - 1], sigma, strength)
            if added is not None:
                x = x + added
            if asks_again:
                x0 = yield x, sigma
                x0s[0] = x0
        if after == 0:
            return x0
        strength = 1.0 if tau is None else tau(after)
        used = min(predictor_order, len(x0s), max(1, left - 1))
        ahead = _stochastic_adams(x, x0s[:used], lambdas[:used], sigma, after, strength)
        added = None
        if strength and s_noise:
            h = math.log(sigma / after)
            added = noise(sigma, after) * (after * math.sqrt(-math.expm1(-2 * strength**2 * h)) * s_noise)
            ahead = ahead + added
        x0s, lambdas = x0s[:corrector_order - 1], lambdas[:corrector_order - 1]
    return ahead


def _stochastic_adams(x: Tensor, x0s: Sequence[Tensor], lambdas: Sequence[float], sigma: float, after: float,
                      tau: float) -> Tensor:
    """The exact linear part, and the integral of x0's polynomial (arXiv:2309.05019, eq. 14, without its noise).

    b_j = sigma' (1 + tau^2) integral of e^(-tau^2 (lambda' - l)) e^l l_j(l) dl.
    """
    begin, end = log_snr(sigma), log_snr(after)
    square = tau**2

    def density(at: np.ndarray) -> np.ndarray:
        return (1 + square) * np.exp((1 + square) * (at - end))

    x = x * (after / sigma * math.exp(-square * (end - begin)))
    for x0, weight in zip(x0s, lagrange_integrals(lambdas, begin, end, density), strict=True):
        x = x + x0 * weight
    return x


def er_scaler(level: np.ndarray | float) -> np.ndarray | float:
    """phi(l) = l (e^(l^0.3) + 10), the noise scale that its authors chose (arXiv:2309.06169)."""
    return level * (np.exp(level**0.3) + 10)


def er_sde(x: Tensor, sigmas: Sequence[float], noise: Noise, s_noise: float = 1.0, stages: int = 3,
           scaler: Scaler = er_scaler, points: int = 200) -> Walk:
    """Solve the extended reverse-time SDE with up to the second derivative of x0 in sigma.

    Cui et al. 2023, "Elucidating the Solution Space of Extended Reverse-Time SDE for Diffusion Models"
    (arXiv:2309.06169), for a variance-exploding process, where lambda is sigma; the integrals are sums over `points`
    points, as in the paper.
    """
    last_x0, last_rate = None, None
    for i, (sigma, after) in enumerate(pairwise(sigmas)):
        x0 = yield x, sigma
        if after == 0:
            return x0
        ratio = float(scaler(after) / scaler(sigma))
        moved = x * ratio + x0 * (1 - ratio)
        if stages > 1 and last_x0 is not None:
            length = (sigma - after) / points
            at = after + np.arange(points) * length
            scaled = scaler(at)
            area = float((1 / scaled).sum()) * length
            rate = (x0 - last_x0) / (sigma - sigmas[i - 1])
            moved = moved + rate * (after - sigma + area * float(scaler(after)))
            if stages > 2 and last_rate is not None:
                moment = float(((at - sigma) / scaled).sum()) * length
                bend = (rate - last_rate) / ((sigma - sigmas[i - 2]) / 2)
                moved = moved + bend * ((after - sigma) ** 2 / 2 + moment * float(scaler(after)))
            last_rate = rate
        last_x0 = x0
        variance = after**2 - (sigma * ratio) ** 2
        x = moved + noise(sigma, after) * (s_noise * math.sqrt(max(0.0, variance)))
    return x
