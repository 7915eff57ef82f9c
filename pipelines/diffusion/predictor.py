"""The contract between a model and the loops that walk from noise to picture."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Predictor(Protocol):
    """Answers latents with the model's raw output, guidance included.

    What the model is (a U-Net, a transformer, a steered one) is the predictor's own business; samplers, masks and
    windows stand on its answer. needs_grad: whether it differentiates, so that the loop must not enter torch's
    inference mode.
    """

    needs_grad: bool

    def __call__(self, latents: Tensor, t: Tensor, step: int, steps: int) -> Tensor:
        """latents: (b, c, h, w) as the scheduler keeps them. t: the timestep. step: the call, counted from 0, of so
        many. Returns (b, c, h, w)."""
        ...
