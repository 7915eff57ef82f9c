"""Which noise levels a run walks along, one function a schedule: (levels of the model, steps) -> sigmas.

Each returns Python floats that fall, one more than there are steps, the last of them 0 unless its docstring says
otherwise. `ModelLevels` are the levels a model was trained at, sigma = sqrt((1 - abar) / abar), and the way between
them and timesteps: the logarithm of sigma is a straight line between two neighbours (Katherine Crowson, k-diffusion
2022). Names with capitals are AUTOMATIC1111's, names in lower case ComfyUI's; both are there where their numbers
differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

# abar of a last timestep that is noise alone, where sigma would be infinite: the value that the tools agree on.
LEAST_ABAR = 4.8973451890853435e-08
BETA_SHAPE = 0.6  # of the Beta distribution (Lee et al. 2024, arXiv:2407.12173)


@dataclass(frozen=True)
class ModelLevels:
    """The noise levels of a model's training timesteps, from low to high. is_xl: takes SDXL's tuned schedules."""

    sigmas: tuple[float, ...]
    is_xl: bool = False
    _logs: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_logs", np.log(np.asarray(self.sigmas)))

    @classmethod
    def of_abar(cls, alphas_cumprod: Tensor, is_xl: bool = False) -> ModelLevels:
        """Levels of a variance-preserving schedule. alphas_cumprod: (T,), abar, from almost clean to noise."""
        abar = alphas_cumprod.double().clamp(min=LEAST_ABAR).cpu().numpy()
        return cls(tuple(np.sqrt((1 - abar) / abar).tolist()), is_xl)

    @classmethod
    def usual(cls) -> ModelLevels:
        """Those of Stable Diffusion 1.5 and SDXL: sqrt(beta) rises evenly, from beta 0.00085 to 0.012."""
        abar = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
        return cls(tuple(np.sqrt((1 - abar) / abar).tolist()))

    @property
    def lowest(self) -> float:
        return self.sigmas[0]

    @property
    def highest(self) -> float:
        return self.sigmas[-1]

    def sigma(self, t: float) -> float:
        """The level at a timestep, which need not be whole."""
        return float(np.exp(np.interp(t, np.arange(len(self.sigmas)), self._logs)))

    def timestep(self, sigma: float) -> float:
        """The timestep of a level, not rounded; beyond the ends, the end."""
        return float(np.interp(math.log(max(sigma, 1e-10)), self._logs, np.arange(len(self.sigmas))))


@dataclass(frozen=True)
class Bounds:
    """What a person may set about a schedule. None: as the model and the schedule have it."""

    sigma_min: float | None = None
    sigma_max: float | None = None
    rho: float | None = None

    def of(self, levels: ModelLevels) -> tuple[float, float]:
        """The lowest level above 0, and the highest."""
        return self.sigma_min or levels.lowest, self.sigma_max or levels.highest


UNBOUND = Bounds()
Schedule = Callable[[ModelLevels, int, Bounds], list[float]]


def _shares(steps: int, end: bool = True) -> list[float]:
    """0..1 in so many points, with 1 or without."""
    return np.linspace(0, 1, steps, endpoint=end).tolist()


def uniform(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Levels of evenly spaced timesteps, from the model's last to its first."""
    last = len(levels.sigmas) - 1
    return [levels.sigma(last * (1 - share)) for share in _shares(steps)] + [0.0]


def sgm_uniform(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Levels of evenly spaced timesteps that would reach the first one a step later than they end."""
    last = len(levels.sigmas) - 1
    return [levels.sigma(last * (1 - share)) for share in _shares(steps, end=False)] + [0.0]


def karras_levels(count: int, low: float, high: float, rho: float = 7.0) -> list[float]:
    """Levels from high to low, evenly spaced in sigma^(1 / rho) (Karras et al. 2022, arXiv:2206.00364, eq. 5)."""
    top, bottom = high ** (1 / rho), low ** (1 / rho)
    return [(top + i / max(1, count - 1) * (bottom - top)) ** rho for i in range(count)]


def karras(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Evenly spaced in sigma^(1 / rho), rho 7."""
    low, high = bounds.of(levels)
    return [*karras_levels(steps, low, high, bounds.rho or 7.0), 0.0]


def exponential(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Evenly spaced in log sigma."""
    low, high = bounds.of(levels)
    return [math.exp(math.log(high) + share * (math.log(low) - math.log(high))) for share in _shares(steps)] + [0.0]


def polyexponential(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Log sigma falls as a power rho of the way that is left, rho 1 (Katherine Crowson, k-diffusion 2022)."""
    low, high = bounds.of(levels)
    return [math.exp(math.log(low) + (1 - share) ** (bounds.rho or 1.0) * (math.log(high) - math.log(low)))
            for share in _shares(steps)] + [0.0]


def simple(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Every (T / steps)-th of the model's own levels, from the highest on."""
    width = len(levels.sigmas) / steps
    return [levels.sigmas[-1 - int(i * width)] for i in range(steps)] + [0.0]


def ddim_uniform(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Every (T // steps)-th timestep, from the second on (Song et al. 2020, arXiv:2010.02502, appendix D.2).

    Of step numbers that do not divide T it has a few steps more than asked.
    """
    timesteps = range(1, len(levels.sigmas), max(1, len(levels.sigmas) // steps))
    return [levels.sigmas[t] for t in reversed(timesteps)] + [0.0]


def turbo(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Whole timesteps, each a T / steps-th below the one before, from the last on: what SD Turbo was distilled at."""
    width = len(levels.sigmas) / steps
    return [levels.sigmas[min(max(round((steps - i) * width) - 1, 0), len(levels.sigmas) - 1)]
            for i in range(steps)] + [0.0]


def kl_optimal(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Evenly spaced in arctan sigma (Sabour et al. 2024, arXiv:2404.14507); the lowest stands before the 0."""
    low, high = (math.atan(level) for level in bounds.of(levels))
    return [math.tan(share * low + (1 - share) * high) for share in _shares(steps)] + [0.0]


def kl_optimal_to_lowest(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Evenly spaced in arctan sigma, one more of them, and no 0: it ends at the lowest level."""
    return kl_optimal(levels, steps + 1, bounds)[:-1]


def beta_of_timesteps(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Whole timesteps at the quantiles of a Beta distribution, with equal ones taken once.

    Lee et al. 2024, "Beta Sampling is All You Need" (arXiv:2407.12173), with alpha = beta = 0.6.
    """
    last = len(levels.sigmas) - 1
    timesteps = [round(quantile * last) for quantile in _beta_quantiles([1 - share for share in
                                                                         _shares(steps, end=False)])]
    return [levels.sigmas[t] for t in dict.fromkeys(timesteps)] + [0.0]


def beta_of_sigmas(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Levels, not timesteps, at the quantiles of the same distribution, between the lowest and the highest."""
    low, high = bounds.of(levels)
    return [low + quantile * (high - low) for quantile in _beta_quantiles([1 - share for share in _shares(steps)])] + [
        0.0]


def _beta_quantiles(shares: Sequence[float]) -> list[float]:
    from scipy.stats import beta

    return beta.ppf(shares, BETA_SHAPE, BETA_SHAPE).tolist()


def linear_quadratic(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Half the steps lower the noise by 2.5 % in a line, the others to 0 in a parabola that goes on as the line ends.

    Polyak et al. 2024, "Movie Gen" (arXiv:2410.13720), sec. 3.4.2.
    """
    if steps == 1:
        return [levels.highest, 0.0]
    threshold, straight = 0.025, steps // 2
    curved = steps - straight
    shares = [threshold * i / straight for i in range(straight)]
    square = (straight / steps) and (1 - threshold - threshold / straight * curved) / curved**2
    shares += [threshold + threshold / straight * i + square * i**2 for i in range(curved)]
    return [levels.highest * (1 - share) for share in shares] + [0.0]


# Sabour et al. 2024, "Align Your Steps: Optimizing Sampling Schedules in Diffusion Models" (arXiv:2404.14507):
# ten steps of Stable Diffusion 1.5 and of SDXL. GITS: Chen et al. 2024 (arXiv:2405.11326), ten steps.
_AYS = ((14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029),
        (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029))
_GITS = ((14.615, 4.617, 2.507, 1.236, 0.702, 0.402, 0.240, 0.156, 0.104, 0.094, 0.029),
         (14.615, 4.734, 2.567, 1.529, 0.987, 0.652, 0.418, 0.268, 0.179, 0.127, 0.029))
_AYS_32_LOWEST, _AYS_32 = 0.015, 32


def _between(table: Sequence[float], count: int) -> list[float]:
    """Read a table at so many places, log sigma in a straight line between two of its levels."""
    places = np.linspace(0, len(table) - 1, count)
    return np.exp(np.interp(places, np.arange(len(table)), np.log(table))).tolist()


def align_your_steps(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Levels that were tuned for the model, read at as many places as there are steps (arXiv:2404.14507)."""
    return [*_between(_AYS[levels.is_xl], steps), 0.0]


def align_your_steps_gits(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Levels along which the flow bends least (Chen et al. 2024, arXiv:2405.11326), read in the same way."""
    return [*_between(_GITS[levels.is_xl], steps), 0.0]


def align_your_steps_32(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Align Your Steps down to 0.015, first read at 32 places and then at as many as there are steps."""
    table = _between([*_AYS[levels.is_xl][:-1], _AYS_32_LOWEST], _AYS_32)
    return [*_between(table, steps), 0.0]


DISTILLED_STEPS = 50  # of the teacher's walk, at whose timesteps consistency models were distilled


def _distilled(levels: ModelLevels) -> list[float]:
    width = len(levels.sigmas) // DISTILLED_STEPS
    return [levels.sigmas[(i + 1) * width - 1] for i in range(DISTILLED_STEPS)]


def lcm(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Evenly spaced among the 50 timesteps that latent consistency models know, from the last to the first."""
    return [*_between(_distilled(levels)[::-1], steps), 0.0]


def tcd(levels: ModelLevels, steps: int, bounds: Bounds = UNBOUND) -> list[float]:
    """Every (50 / steps)-th of the same timesteps, from the last on; it ends at the model's lowest level."""
    known = _distilled(levels)[::-1]
    return [known[int(i * len(known) / steps)] for i in range(min(steps, len(known)))] + [levels.lowest]


def given(sigmas: Sequence[float]) -> Schedule:
    """A schedule of levels that somebody wrote down; the number of steps is theirs."""
    own = [float(level) for level in sigmas]
    return lambda levels, steps, bounds=UNBOUND: list(own)


SCHEDULES: dict[str, Schedule] = {
    "Uniform": uniform, "Karras": karras, "Exponential": exponential, "Polyexponential": polyexponential,
    "SGM Uniform": sgm_uniform, "KL Optimal": kl_optimal_to_lowest, "Align Your Steps": align_your_steps,
    "Align Your Steps GITS": align_your_steps_gits, "Align Your Steps 11": align_your_steps,
    "Align Your Steps 32": align_your_steps_32, "Simple": simple, "Normal": uniform, "DDIM": ddim_uniform,
    "Beta": beta_of_sigmas, "Turbo": turbo, "beta": beta_of_timesteps, "kl_optimal": kl_optimal,
    "linear_quadratic": linear_quadratic,
}
# What "Automatic" is for samplers whose levels have no name of their own.
OWN: dict[str, Schedule] = {"LCM": lcm, "TCD": tcd}
# diffusers' names for what a checkpoint's own config may ask for.
SPACINGS = {"linspace": "Uniform", "leading": "DDIM", "trailing": "Turbo"}
