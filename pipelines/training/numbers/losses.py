"""What a model is trained towards, as pure functions of tensors. Every one names its equation.

Notation: x0 clean latents (b, c, h, w), noise of the same shape, abar the cumulative alpha of the timestep (b,),
x_t = sqrt(abar) x0 + sqrt(1 - abar) noise (Ho et al. 2020, arXiv:2006.11239, eq. 4), SNR = abar / (1 - abar).
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_SNR = 1e-8  # schedules with zero terminal SNR reach 0, where weights of noise prediction have no value


def add_noise(x0: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """x_t, equation 4 of arXiv:2006.11239."""
    abar = _spread(abar, x0)
    return abar.sqrt() * x0 + (1 - abar).sqrt() * noise


def target(prediction_type: str, x0: Tensor, noise: Tensor, abar: Tensor) -> Tensor:
    """What the model should say: noise, v = sqrt(abar) noise - sqrt(1 - abar) x0 (arXiv:2202.00512, app. D), or x0."""
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "sample":
        return x0
    if prediction_type == "v_prediction":
        abar = _spread(abar, x0)
        return abar.sqrt() * noise - (1 - abar).sqrt() * x0
    raise ValueError(f"unknown prediction type {prediction_type!r}")


def snr(abar: Tensor) -> Tensor:
    """Signal-to-noise ratio abar / (1 - abar): (b,)."""
    return (abar / (1 - abar)).clamp_min(MIN_SNR)


def min_snr_weight(abar: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """min(SNR, gamma) in units of the x0 loss (Hang et al. 2023, arXiv:2303.09556, eq. 8): (b,)."""
    ratio = snr(abar)
    return ratio.clamp_max(gamma) / _x0_units(ratio, prediction_type)


def debiased_weight(abar: Tensor, prediction_type: str) -> Tensor:
    """1 / sqrt(SNR) in units of the noise loss (Yu et al. 2023, arXiv:2310.08442): (b,).

    SNR is taken at most 1000, where the picture is almost free of noise.
    """
    ratio = snr(abar).clamp_max(1000)
    return ratio.sqrt() / _x0_units(ratio, prediction_type)


def _x0_units(ratio: Tensor, prediction_type: str) -> Tensor:
    """How many x0 losses one loss of the prediction is: noise SNR, v SNR + 1, x0 1 (arXiv:2303.09556, sec. 3.2)."""
    return {"epsilon": ratio, "v_prediction": ratio + 1, "sample": torch.ones_like(ratio)}[prediction_type]


def offset_noise(noise: Tensor, shift: Tensor, strength: float) -> Tensor:
    """Add one random level a picture and channel, so that mean brightness is learned too (Guttenberg 2023).

    shift: (b, c, 1, 1), unit normal.
    """
    return noise + strength * shift


def squared_error(prediction: Tensor, wanted: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error of each picture: (b,). mask: (b, 1, h, w) weights 0..1, by whose sum it is divided."""
    error = (prediction.float() - wanted.float()).square()
    if mask is None:
        return error.flatten(1).mean(1)
    weight = mask.float().expand_as(error)
    return (error * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1e-6)


def total(errors: Tensor, weights: Tensor, count: int) -> Tensor:
    """Weighted sum of pictures' errors over the number of pictures in the whole update.

    With the regularisation pictures' weight this is the prior preservation loss of DreamBooth (Ruiz et al. 2022,
    arXiv:2208.12242, eq. 2). Sums over parts of an update add up to the loss of the update.
    """
    return (errors * weights).sum() / count


def _spread(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like).view(-1, *[1] * (like.dim() - 1))
