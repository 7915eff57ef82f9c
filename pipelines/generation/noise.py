"""The random numbers of pictures: one source each for the first noise, and a second one to vary it a little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers.utils.torch_utils import randn_tensor

from ..diffusion.philox import Philox
from ..requests import MAX_SEED, Request
from .samplers import is_earlier

LATENT_PX = 8

# Of one picture: torch's on the processor or on the device that computes, or an NVIDIA card's, drawn anywhere.
Source = torch.Generator | Philox


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch.

    generators: one a picture; they also serve the sampler's own noise where `later` is empty. variations: as many, or
    empty for none. strength: 0 is the first noise, 1 the varied one. later: for the noise of the steps. encoders: for
    samples of the autoencoder's posterior, where the generators are not torch's on the processor. small: as many more
    of the same seeds, for noise of another size, which is laid into the middle. small_size: height and width of that,
    in latents.
    """

    generators: tuple[Source, ...]
    variations: tuple[Source, ...] = ()
    strength: float = 0.0
    later: tuple[Source, ...] = ()
    encoders: tuple[torch.Generator, ...] = ()
    small: tuple[Source, ...] = ()
    small_size: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, request: Request, seeds: Sequence[int], variations: Sequence[int], device: torch.device) -> Draws:
        """Make those of a request's pictures. device: what computes."""
        kind = "CPU" if is_earlier(request.schedule) else request.noise_source

        def sources(numbers: Sequence[int]) -> tuple[Source, ...]:
            return tuple(source(kind, number, device) for number in numbers)

        later = [(seed + request.noise_delta) % (MAX_SEED + 1) for seed in seeds] if request.noise_delta else ()
        size = request.seed_resize_height // LATENT_PX, request.seed_resize_width // LATENT_PX
        return cls(sources(seeds), sources(variations), request.variation_strength, sources(later),
                   () if kind == "CPU" else tuple(torch.Generator("cpu").manual_seed(seed) for seed in seeds),
                   sources(seeds) if all(size) else (), size)

    def noise(self, shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Unit noise of `shape` (b, c, h, w); drawn on the CPU, every device starts from the same."""
        if not self.small:
            return self._varied(self.generators, shape, device, dtype)
        inner = self._varied(self.small, (*shape[:2], *self.small_size), device, dtype)
        return laid_into(unit_noise(self.generators, shape, device, dtype), inner)

    def _varied(self, sources: Sequence[Source], shape: Sequence[int], device: torch.device,
                dtype: torch.dtype) -> torch.Tensor:
        first = unit_noise(sources, shape, device, dtype)
        if not self.variations or not self.strength:
            return first
        return slerp(first, unit_noise(self.variations, shape, device, dtype), self.strength)


def source(kind: str, seed: int, device: torch.device) -> Source:
    """A picture's random numbers. kind: "CPU", "GPU" (what computes) or "NV"."""
    if kind == "NV":
        return Philox(seed)
    return torch.Generator("cpu" if kind == "CPU" else device).manual_seed(seed)


def unit_noise(sources: Sequence[Source], shape: Sequence[int], device: torch.device,
               dtype: torch.dtype) -> torch.Tensor:
    """Unit noise of `shape` (b, c, h, w), that of each picture from its own source."""
    one = (1, *shape[1:])
    if any(isinstance(each, Philox) for each in sources):
        drawn = [torch.from_numpy(each.normal(one)) for each in sources if isinstance(each, Philox)]
        return torch.cat(drawn).to(device, dtype)
    return randn_tensor(tuple(shape), generator=list(sources), device=device, dtype=dtype)


def laid_into(noise: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """Put noise of another size into the middle of a picture's; where it is larger, its own middle is used."""
    into, of = [...], [...]
    for side, other in zip(noise.shape[-2:], inner.shape[-2:], strict=True):
        middle, shared = (side - other) // 2, min(side, other)
        into.append(slice(max(middle, 0), max(middle, 0) + shared))
        of.append(slice(max(-middle, 0), max(-middle, 0) + shared))
    made = noise.clone()
    made[tuple(into)] = inner[tuple(of)]
    return made


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
