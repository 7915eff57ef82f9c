"""Combine what a model predicts with and without a prompt. All of it is linear, so any form of prediction will do."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def classifier_free(uncond: Tensor, cond: Tensor, guidance_scale: float) -> Tensor:
    """Push the prediction away from the unconditional one.

    uncond, cond: (b, c, h, w). guidance_scale: w >= 0; 1 gives cond. Ho & Salimans 2022 (arXiv:2207.12598) in the form
    uncond + w (cond - uncond), so w equals diffusers'.
    """
    return uncond + guidance_scale * (cond - uncond)


def composed_direction(uncond: Tensor, conds: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Add up where several prompts lead from the unconditional prediction: (b, c, h, w).

    Liu et al. 2022 (arXiv:2206.01714), eq. 11, of which one prompt of weight 1 is the plain case.
    """
    directions = [weight * (cond - uncond) for weight, cond in zip(weights, conds, strict=True)]
    return sum(directions[1:], directions[0])


def rescale(guided: Tensor, cond: Tensor, share: float) -> Tensor:
    """Bring the guided prediction's spread back to the conditional one's, by a share of 0..1.

    Lin et al. 2023 (arXiv:2305.08891), eq. 15 and 16.
    """
    axes = tuple(range(1, guided.ndim))
    even = guided * (cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True))
    return share * even + (1 - share) * guided
