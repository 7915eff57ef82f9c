"""What every solver shares: how it asks for x0, who drives it, and the splitting of a step into way and fresh noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Asks (x, sigma) for x0, is sent it, and returns the end. Solvers with two guided parts are sent a pair of tensors.
Walk = Generator[tuple["Tensor", float], Any, "Tensor"]
Denoised = Callable[["Tensor", float], Any]
Noise = Callable[[float, float], "Tensor"]
Solver = Callable[..., Walk]


def solve(solver: Solver, denoised: Denoised, x: Tensor, sigmas: Sequence[float], noise: Noise,
          **options: Any) -> Tensor:
    """Walk from x at sigmas[0] to the last level, asking denoised(x, sigma) whenever the solver needs x0.

    x: (b, c, h, w), x0 + sigmas[0] * eps. noise(sigma, sigma_next): unit noise like x. options: the solver's own.
    """
    walk = solver(x, sigmas, noise, **options)
    try:
        asked = next(walk)
        while True:
            asked = walk.send(denoised(*asked))
    except StopIteration as end:
        return end.value


def asked_levels(solver: Solver, sigmas: Sequence[float], pair: bool = False, **options: Any) -> list[float]:
    """Return the noise level of every model call of a run, without a model: they do not depend on the latents.

    pair: whether the solver is sent (x0, unconditional x0). Not for dpm_adaptive, whose levels do depend on them.
    """
    levels: list[float] = []

    def denoised(x: Tensor, sigma: float) -> Any:
        levels.append(sigma)
        return (x, x) if pair else x

    solve(solver, denoised, 0.0, sigmas, lambda *_: 0.0, **options)  # a number is as good as a picture
    return levels


def slope(x: Tensor, x0: Tensor, sigma: float) -> Tensor:
    """dx / dsigma of the probability flow: (x - x0) / sigma (EDM eq. 1 and 3)."""
    return (x - x0) / sigma


def log_snr(sigma: float) -> float:
    """Half the logarithm of the signal-to-noise ratio, lambda = -log sigma (arXiv:2206.00927, sec. 2.2)."""
    return -math.log(sigma)


def split(sigma: float, after: float, eta: float) -> tuple[float, float]:
    """Divide a step into the level to walk down to, and the fresh noise that brings x back up to `after`.

    sigma_up = eta sqrt(after^2 (sigma^2 - after^2) / sigma^2), sigma_down^2 = after^2 - sigma_up^2: the posterior of Ho
    et al. 2020 (arXiv:2006.11239, eq. 7) in sigma space for eta 1, the ODE for eta 0 (Song et al. 2020,
    arXiv:2010.02502, eq. 16).
    """
    if not eta:
        return after, 0.0
    up = min(after, eta * math.sqrt(max(0.0, after**2 * (sigma**2 - after**2) / sigma**2)))
    return math.sqrt(max(0.0, after**2 - up**2)), up


def churned(x: Tensor, sigma: float, steps: int, noise: Noise, churn: float, tmin: float, tmax: float,
            scale: float) -> tuple[Tensor, float]:
    """Raise the noise by gamma = min(churn / steps, sqrt(2) - 1) where tmin <= sigma <= tmax (EDM algorithm 2).

    steps: as k-diffusion counts, one more than there are steps. scale: S_noise. Returns x and its new level.
    """
    if churn <= 0 or not tmin <= sigma <= tmax:
        return x, sigma
    raised = sigma * (1 + min(churn / steps, math.sqrt(2) - 1))
    return x + noise(sigma, raised) * (scale * math.sqrt(raised**2 - sigma**2)), raised


def phi_1(h: float) -> float:
    """(e^h - 1) / h, the first function of exponential integrators (Hochbruck & Ostermann 2010, eq. 2.6)."""
    return math.expm1(h) / h


def phi_2(h: float) -> float:
    """(phi_1(h) - 1) / h (Hochbruck & Ostermann 2010, eq. 2.11)."""
    return (phi_1(h) - 1) / h


def phi_3(h: float) -> float:
    """(phi_2(h) - 1/2) / h."""
    return (phi_2(h) - 0.5) / h
