"""What a model is trained towards, as pure functions of tensors. Every one names its equation.

Notation: x_t = alpha x0 + sigma noise, SNR = (alpha / sigma)^2. The target of a prediction type is
noise_level.Prediction.form.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .noise_level import prediction_type

MIN_SNR = 1e-8  # schedules with zero terminal SNR reach 0, where weights of noise prediction have no value
MAX_DEBIASED_SNR = 1000  # above it the picture is almost free of noise


def snr(alpha: Tensor, sigma: Tensor) -> Tensor:
    """Signal-to-noise ratio (Kingma et al. 2021, arXiv:2107.00630, eq. 2). alpha, sigma: (n,)."""
    return (alpha / sigma) ** 2


def x0_weight(alpha: Tensor, sigma: Tensor, kind: str) -> Tensor:
    """How many squared x0 errors one squared error of a prediction is: (n,). arXiv:2303.09556, sec. 3.2.

    kind: a prediction type, or its short name. Where variance is preserved: SNR for noise, SNR + 1 for v.
    """
    return _X0_WEIGHT[prediction_type(kind)](alpha, sigma)


_X0_WEIGHT = {
    "epsilon": lambda alpha, sigma: (alpha / sigma) ** 2,
    "sample": lambda alpha, sigma: torch.ones_like(alpha),
    "v_prediction": lambda alpha, sigma: (alpha**2 / sigma + sigma) ** 2,
    "flow_prediction": lambda alpha, sigma: ((alpha + sigma) / sigma) ** 2,
    "score": lambda alpha, sigma: (alpha / sigma**2) ** 2,
}


def min_snr_weight(alpha: Tensor, sigma: Tensor, kind: str, gamma: float = 5.0) -> Tensor:
    """Weight of a prediction's squared error that makes the x0 error weigh min(SNR, gamma): (n,).

    Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy" (arXiv:2303.09556), eq. 8.
    """
    return snr(alpha, sigma).clamp(MIN_SNR, gamma) / x0_weight(alpha, sigma, kind).clamp_min(MIN_SNR)


def debiased_weight(alpha: Tensor, sigma: Tensor, kind: str) -> Tensor:
    """1 / sqrt(SNR) in units of the noise loss (Yu et al. 2023, arXiv:2310.08442): (n,). Variance is preserved."""
    ratio = snr(alpha, sigma).clamp(MIN_SNR, MAX_DEBIASED_SNR)
    return ratio.sqrt() / x0_weight((ratio / (1 + ratio)).sqrt(), (1 / (1 + ratio)).sqrt(), kind)


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
