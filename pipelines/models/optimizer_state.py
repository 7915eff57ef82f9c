"""What an optimizer remembers of the weights that it trains. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

STATES = {"sgd": 0, "adamw": 2, "prodigy": 4}  # tensors of a weight's own size that are kept of it
BLOCK = 256  # values that share one float32 scale in bitsandbytes' 8-bit states


def state_bytes(name: str, weights: Iterable[torch.Tensor]) -> int:
    """What an optimizer remembers of weights from its first step on.

    adamw: two moments of each weight, in its format (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1). adamw8bit: one
    byte a moment and a scale for each 256 (Dettmers et al. 2022, arXiv:2110.02861, sec. 2). adafactor: a row and a
    column of each matrix (Shazeer & Stern 2018, arXiv:1804.04235, algorithm 4). prodigy: two moments, the start and a
    sum of gradients (Mishchenko & Defazio 2023, arXiv:2306.06101, algorithm 4).
    """
    weights = list(weights)
    whole = sum(weight.numel() * weight.element_size() for weight in weights)
    if name == "adafactor":
        return sum(4 * (w.numel() // w.shape[-1] + w.numel() // w.shape[-2] if w.ndim > 1 else w.numel())
                   for w in weights)
    if name == "adamw8bit":
        return round(2 * sum(weight.numel() for weight in weights) * (1 + 4 / BLOCK))
    return STATES[name] * whole
