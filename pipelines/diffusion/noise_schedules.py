"""How much noise at which time: x_t = alpha_t x0 + sigma_t eps, equation (1) of noise_level.py.

A variance-preserving schedule has alpha_t = sqrt(abar_t) and sigma_t = sqrt(1 - abar_t), where abar is the cumulative
product of 1 - beta: equation 4 of Ho et al. 2020 ("Denoising Diffusion Probabilistic Models", arXiv:2006.11239, here
called DDPM). A flow schedule has alpha_t = 1 - sigma_t. Timesteps count from 0 in code, where the papers begin with 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import RequestError, quoted
from .noise_level import add_noise

MIN_TIMESTEPS = 10
MAX_TIMESTEPS = 10_000
MAX_BETA = 0.999


@dataclass(frozen=True)
class Schedule:
    """alpha, sigma: (T,) float64, from almost clean to almost noise."""

    name: str
    alpha: Tensor
    sigma: Tensor

    def __len__(self) -> int:
        return len(self.alpha)

    @property
    def alphas_cumprod(self) -> Tensor:
        """abar: (T,), the signal's share of the variance; a flow schedule that of its variance-preserving twin."""
        return self.alpha**2 / (self.alpha**2 + self.sigma**2)

    @property
    def betas(self) -> Tensor:
        """beta_t = 1 - abar_t / abar_(t-1): (T,), the variance that step t adds (DDPM eq. 2)."""
        abar = self.alphas_cumprod
        return 1 - abar / torch.cat([abar.new_ones(1), abar[:-1]])

    @property
    def snr(self) -> Tensor:
        """alpha^2 / sigma^2: (T,), signal-to-noise ratio (Kingma et al. 2021, arXiv:2107.00630, eq. 2)."""
        return self.alpha**2 / self.sigma**2

    def at(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma of timesteps t (b,), shaped (b, 1, 1, 1) and typed to multiply `like`."""
        shape = (-1, *[1] * (like.dim() - 1))
        t = t.to(self.alpha.device)
        return self.alpha[t].to(like).view(shape), self.sigma[t].to(like).view(shape)


# ---------------------------------------------------------------------------------------------------------- schedules
def linear(timesteps: int) -> Schedule:
    """beta from 0.0001 to 0.02 (DDPM sec. 4), divided among the timesteps so that any number ends in noise.

    The factor 1000 / T is that of Nichol & Dhariwal 2021 (arXiv:2102.09672), in their published code.
    """
    share = 1000 / timesteps
    return of_betas("linear", torch.linspace(share * 1e-4, share * 0.02, timesteps, dtype=torch.float64))


def scaled_linear(timesteps: int) -> Schedule:
    """sqrt(beta) rises evenly, from beta 0.00085 to 0.012: Stable Diffusion's (arXiv:2112.10752, published code)."""
    share = 1000 / timesteps
    roots = torch.linspace((share * 0.00085) ** 0.5, (share * 0.012) ** 0.5, timesteps, dtype=torch.float64)
    return of_betas("scaled linear", roots**2)


def cosine(timesteps: int, offset: float = 0.008) -> Schedule:
    """abar falls like a squared cosine, so that noise grows evenly to the eye (arXiv:2102.09672, eq. 17)."""

    def f(time: Tensor) -> Tensor:
        return torch.cos((time + offset) / (1 + offset) * math.pi / 2) ** 2

    edges = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    return of_betas("cosine", 1 - f(edges[1:]) / f(edges[:-1]))


def zero_terminal_snr(timesteps: int) -> Schedule:
    """Scaled linear, stretched until the last step is noise alone (Lin et al. 2023, arXiv:2305.08891, algorithm 1).

    sqrt(abar) is shifted so that it ends at 0, then scaled so that it begins where it did.
    """
    root = scaled_linear(timesteps).alpha
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return Schedule("zero terminal SNR", root, (1 - root**2).sqrt())


def flow(timesteps: int, shift: float = 1.0) -> Schedule:
    """A straight line from picture to noise: x_t = (1 - s) x0 + s eps (Liu et al. 2022, arXiv:2209.03003, eq. 1).

    shift > 1 spends more of the timesteps on high noise (Esser et al. 2024, arXiv:2403.03206, eq. 23).
    """
    s = torch.arange(1, timesteps + 1, dtype=torch.float64) / timesteps
    s = shift * s / (1 + (shift - 1) * s)
    return Schedule("flow", 1 - s, s)


def of_betas(name: str, betas: Tensor) -> Schedule:
    """abar_t = prod (1 - beta) (DDPM eq. 4). betas: (T,), clipped to MAX_BETA as in arXiv:2102.09672."""
    abar = torch.cumprod(1 - betas.double().clamp(max=MAX_BETA), 0)
    return Schedule(name, abar.sqrt(), (1 - abar).sqrt())


SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "linear": linear, "scaled linear": scaled_linear, "cosine": cosine, "zero terminal SNR": zero_terminal_snr,
    "flow": flow,
}


def make(name: str, timesteps: int) -> Schedule:
    """A schedule by name. Raises RequestError for an unknown one and for too few or too many timesteps."""
    if name not in SCHEDULES:
        raise RequestError(f"Schedule: {quoted(name)} is unknown. Known are {', '.join(SCHEDULES)}.", "schedule")
    if not MIN_TIMESTEPS <= timesteps <= MAX_TIMESTEPS:
        raise RequestError(f"Timesteps: {timesteps} is not possible. Between {MIN_TIMESTEPS} and {MAX_TIMESTEPS}; with "
                           "very few, one step has to turn pure noise into a picture.", "timesteps")
    return SCHEDULES[name](timesteps)


# ------------------------------------------------------------------------------------------------ forward and backward
def noised(schedule: Schedule, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t drawn from q(x_t | x_0), DDPM eq. 4. x0, noise: (b, c, h, w); t: (b,)."""
    return add_noise(x0, noise, *schedule.at(t, x0))


def posterior(x0: Tensor, x_t: Tensor, now: tuple[float, float], before: tuple[float, float]) -> tuple[Tensor, float]:
    """Mean and variance of q(x_s | x_t, x_0), the step back from noise level `now` to the cleaner `before`.

    now, before: (alpha, sigma); (1, 0) is the clean picture. For neighbours of a variance-preserving schedule this is
    DDPM eq. 6 and 7; in this form, for any two levels, arXiv:2107.00630, appendix A.2.
    """
    (alpha, sigma), (alpha_s, sigma_s) = now, before
    added = added_variance(now, before)
    mean = alpha / alpha_s * sigma_s**2 / sigma**2 * x_t + alpha_s * added / sigma**2 * x0
    return mean, added * sigma_s**2 / sigma**2


def added_variance(now: tuple[float, float], before: tuple[float, float]) -> float:
    """What x_t has beyond the scaled x_s: sigma_t^2 - (alpha_t / alpha_s)^2 sigma_s^2. beta_t for neighbours."""
    return max(0.0, now[1] ** 2 - (now[0] / before[0] * before[1]) ** 2)


# ------------------------------------------------------------------------------------------------------- loss weights
def bound_weight(schedule: Schedule) -> Tensor:
    """What the variational bound weighs the squared noise error of step t with: (T,).

    beta^2 / (2 var alpha (1 - abar)) with alpha = 1 - beta and var = beta (DDPM eq. 12). The simple loss drops it
    (eq. 14) and so weighs the noisy steps, where the subject is decided, far more.
    """
    beta, abar = schedule.betas, schedule.alphas_cumprod
    return beta / (2 * (1 - beta) * (1 - abar))
