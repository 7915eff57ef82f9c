"""The toy problem of the golden results: a mixture of three Gaussians in 1,024 dimensions, denoised exactly.

Latents are in sigma space (x = x0 + sigma * noise). A run starts at UNIT * sigmas[0]; the k-th fresh noise that a
solver asks for is NOISES[k]. All that is random comes from fixed seeds of torch's CPU generator, so that anybody can
make it again.
"""

from __future__ import annotations

from functools import cache

import torch

SHAPE, D = (1, 4, 16, 16), 1024
_g = torch.Generator().manual_seed(5)
MEANS = torch.randn(3, D, generator=_g, dtype=torch.float64) * 0.5
STD = torch.tensor([0.25, 0.35, 0.3], dtype=torch.float64)
SHARE = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MEANS = torch.randn(1, D, generator=_g, dtype=torch.float64) * 0.6 + MEANS * 0.12
UNIT = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))


@cache
def fresh_noise(k: int) -> torch.Tensor:
    """The k-th noise that is asked for."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(100 + k))


class Noises:
    """Hands out the fresh noises one by one."""

    def __init__(self):
        self.count = 0

    def __call__(self, sigma, after):
        self.count += 1
        return fresh_noise(self.count - 1)


def denoised(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """The mean of x0 given x at noise level sigma. x: SHAPE."""
    v, var = x.reshape(1, -1).double(), STD**2 + sigma**2
    log_share = SHARE.log() - ((v - MEANS) ** 2).sum(1) / (2 * var) - D / 2 * var.log()
    mean = MEANS + (STD**2 / var)[:, None] * (v - MEANS)
    return (torch.softmax(log_share, 0)[:, None] * mean).sum(0).reshape(x.shape).to(x.dtype)
