"""Fresh noise as parts of one Brownian path: what lies between two levels does not depend on the steps taken."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

DIGITS = 6  # to which the tree rounds places on its path


def _place(level: float) -> float:
    """A level as the tree knows it: of float32, where other tools keep theirs, and rounded."""
    return round(float(np.float32(level)), DIGITS)


class BrownianNoise:
    """Unit noise between two levels, of a path for each picture, made on the CPU by its seed.

    The path runs in sigma from `low` to `high`; W(b) - W(a) over sqrt(b - a) is unit noise. torchsde's tree finds any
    part of it again (Li et al. 2020, "Scalable Gradients for Stochastic Differential Equations", arXiv:2001.01328,
    sec. 4), so 10 and 20 steps see the same path.
    """

    def __init__(self, like: Tensor, low: float, high: float, seeds: Sequence[int]):
        """like: (b, c, h, w). seeds: one a picture."""
        import torchsde

        self._device, self._dtype = like.device, like.dtype
        begin = torch.zeros(like.shape[1:])
        ends = _place(low), _place(high)
        self._trees = [torchsde.BrownianTree(ends[0], begin, ends[1], entropy=seed) for seed in seeds]

    def __call__(self, sigma: float, after: float) -> Tensor:
        begin, end = _place(sigma), _place(after)
        sign, low, high = (1, begin, end) if begin < end else (-1, end, begin)
        moved = torch.stack([tree(low, high) for tree in self._trees])
        return (moved * (sign / math.sqrt(high - low))).to(self._device, self._dtype)
