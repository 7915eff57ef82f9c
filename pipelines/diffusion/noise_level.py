"""What one prediction of a model says, in each of its forms: noise, clean picture, v, velocity of a flow, score.

Everywhere

    x_t = alpha x0 + sigma eps,    eps ~ N(0, I)                                                                 (1)

Variance-preserving levels have alpha^2 + sigma^2 = 1 (Ho et al. 2020, arXiv:2006.11239, eq. 4), flows
alpha = 1 - sigma. Each form below solves (1) together with the form's definition. The names are diffusers'
prediction types.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

# Short names that tutorials use -> diffusers' prediction types.
SHORT_NAMES = {"noise": "epsilon", "x0": "sample", "v": "v_prediction", "velocity": "flow_prediction",
               "score": "score"}
Number = float | Tensor


@dataclass(frozen=True)
class NoiseLevel:
    """How noisy latents are: scale * latents = alpha * x0 + sigma * eps.

    alpha, sigma: numbers, or tensors that multiply the latents. scale: what brings the latents, as a scheduler keeps
    them, to x_t of equation (1). Anything that wants to change x0 (masks, guidance) works with every sampler this way.
    """

    alpha: Number
    sigma: Number
    scale: float = 1.0
    prediction_type: str = "epsilon"

    @property
    def power(self) -> Number:
        """alpha^2 + sigma^2, which is 1 where variance is preserved."""
        return self.alpha**2 + self.sigma**2

    def x0(self, output: Tensor, latents: Tensor) -> Tensor:
        """Predicted clean latents. output, latents: (b, c, h, w), latents as the scheduler keeps them."""
        return _X0[self.prediction_type](self, output, latents)

    def eps(self, output: Tensor, latents: Tensor) -> Tensor:
        """Predicted noise: (b, c, h, w)."""
        return _EPS[self.prediction_type](self, output, latents)

    def output(self, x0: Tensor, latents: Tensor) -> Tensor:
        """The model output that would have meant x0: the inverse of `x0`."""
        return _OUTPUT[self.prediction_type](self, x0, latents)


Solve = Callable[[NoiseLevel, Tensor, Tensor], Tensor]

_X0: dict[str, Solve] = {
    "epsilon": lambda at, output, x: (at.scale * x - at.sigma * output) / at.alpha,  # arXiv:2006.11239, eq. 15
    "sample": lambda at, output, x: output,
    "v_prediction": lambda at, output, x: (at.alpha * at.scale * x - at.sigma * output) / at.power,
    "flow_prediction": lambda at, output, x: (at.scale * x - at.sigma * output) / (at.alpha + at.sigma),
    "score": lambda at, output, x: (at.scale * x + at.sigma**2 * output) / at.alpha,
}
_EPS: dict[str, Solve] = {
    "epsilon": lambda at, output, x: output,
    "sample": lambda at, output, x: (at.scale * x - at.alpha * output) / at.sigma,
    "v_prediction": lambda at, output, x: (at.sigma * at.scale * x + at.alpha * output) / at.power,
    "flow_prediction": lambda at, output, x: (at.scale * x + at.alpha * output) / (at.alpha + at.sigma),
    "score": lambda at, output, x: -at.sigma * output,
}
_OUTPUT: dict[str, Solve] = {
    "epsilon": lambda at, x0, x: (at.scale * x - at.alpha * x0) / at.sigma,
    "sample": lambda at, x0, x: x0,
    "v_prediction": lambda at, x0, x: (at.alpha * at.scale * x - at.power * x0) / at.sigma,
    "flow_prediction": lambda at, x0, x: (at.scale * x - (at.alpha + at.sigma) * x0) / at.sigma,
    "score": lambda at, x0, x: (at.alpha * x0 - at.scale * x) / at.sigma**2,
}
PREDICTION_TYPES = tuple(_X0)


@dataclass(frozen=True)
class Prediction:
    """One prediction about x_t. Any of its forms gives all the others. x_t, x0, eps: (b, c, h, w)."""

    x_t: Tensor
    x0: Tensor
    eps: Tensor
    alpha: Number
    sigma: Number

    @property
    def v(self) -> Tensor:
        """alpha eps - sigma x0 (Salimans & Ho 2022, arXiv:2202.00512, app. D)."""
        return self.alpha * self.eps - self.sigma * self.x0

    @property
    def velocity(self) -> Tensor:
        """eps - x0, along the straight line of a flow (arXiv:2209.03003, eq. 1, counted from picture to noise)."""
        return self.eps - self.x0

    @property
    def score(self) -> Tensor:
        """Gradient of log q(x_t): -eps / sigma (Dhariwal & Nichol 2021, arXiv:2105.05233, eq. 11)."""
        return -self.eps / self.sigma

    def form(self, kind: str) -> Tensor:
        """The prediction as one of PREDICTION_TYPES, or by its short name. Raises ValueError for an unknown one."""
        return _FORMS[prediction_type(kind)](self)


_FORMS: dict[str, Callable[[Prediction], Tensor]] = {
    "epsilon": lambda one: one.eps, "sample": lambda one: one.x0, "v_prediction": lambda one: one.v,
    "flow_prediction": lambda one: one.velocity, "score": lambda one: one.score,
}


def prediction_type(kind: str) -> str:
    """A prediction type by its own or its short name. Raises ValueError for an unknown one."""
    name = SHORT_NAMES.get(kind, kind)
    if name not in _X0:
        raise ValueError(f"unknown prediction type {kind!r}")
    return name


def read_prediction(kind: str, output: Tensor, x_t: Tensor, alpha: Number, sigma: Number) -> Prediction:
    """Read a model's output, given as a prediction type or its short name. output, x_t: (b, c, h, w)."""
    level = NoiseLevel(alpha, sigma, prediction_type=prediction_type(kind))
    return Prediction(x_t, level.x0(output, x_t), level.eps(output, x_t), alpha, sigma)


def add_noise(x0: Tensor, noise: Tensor, alpha: Number, sigma: Number) -> Tensor:
    """Draw x_t from q(x_t | x_0): equation (1). x0, noise: (b, c, h, w); alpha and sigma multiply them."""
    return alpha * x0 + sigma * noise


def alpha_and_sigma(alphas_cumprod: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(abar) and sqrt(1 - abar) of pictures (b,), shaped (b, 1, 1, 1) and typed to multiply `like`."""
    abar = alphas_cumprod.to(like).view(-1, *[1] * (like.dim() - 1))
    return abar.sqrt(), (1 - abar).sqrt()
