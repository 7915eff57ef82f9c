"""Starting noise: one CPU generator a picture, and a second one to vary it a little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.utils.torch_utils import randn_tensor


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch.

    generators: one a picture; they also serve the sampler's own noise. variations: as many, or empty for none.
    strength: 0 is the first noise, 1 the varied one.
    """

    generators: tuple[torch.Generator, ...]
    variations: tuple[torch.Generator, ...] = ()
    strength: float = 0.0

    def noise(self, shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Unit noise of `shape` (b, c, h, w), drawn on the CPU, so that every device starts from the same."""
        first = randn_tensor(tuple(shape), generator=list(self.generators), device=device, dtype=dtype)
        if not self.variations or not self.strength:
            return first
        second = randn_tensor(tuple(shape), generator=list(self.variations), device=device, dtype=dtype)
        return slerp(first, second, self.strength)


def slerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """Walk from a to b on the sphere, each picture for itself; a straight line would shrink the noise.

    a, b: (b, c, h, w). t: 0 gives a, 1 gives b. Shoemake 1985; the angle is that between the whole tensors.
    """
    flat_a, flat_b = a.flatten(1).float(), b.flatten(1).float()
    cosine = torch.nn.functional.cosine_similarity(flat_a, flat_b).clamp(-1, 1)
    angle = cosine.acos().view(-1, 1, 1, 1)
    straight = angle.sin() < 1e-4  # (almost) parallel: the sphere's formula divides by 0
    safe = torch.where(straight, torch.ones_like(angle), angle)
    weight_a = torch.where(straight, torch.full_like(angle, 1 - t), ((1 - t) * safe).sin() / safe.sin())
    weight_b = torch.where(straight, torch.full_like(angle, t), (t * safe).sin() / safe.sin())
    return (weight_a * a.float() + weight_b * b.float()).to(a.dtype)
