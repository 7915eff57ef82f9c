"""A small classifier of a set's pictures: a judge of samples, and a goal of guidance.

Noise is added to what it learns from, so that its gradient means something on unfinished pictures too, as Dhariwal &
Nichol 2021 do ("Diffusion Models Beat GANs on Image Synthesis", arXiv:2105.05233, sec. 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data import TinySet

UPDATES = 200
BATCH = 64
LOUDEST = 0.5  # standard deviation of the noise, at most


def build(channels: int, classes: int, width: int = 24) -> nn.Module:
    """Three convolutions and a mean over the picture: (b, c, h, w) -> logits (b, classes)."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.SiLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1, stride=2), nn.GroupNorm(8, 2 * width), nn.SiLU(),
        nn.Conv2d(2 * width, 4 * width, 3, padding=1, stride=2), nn.GroupNorm(8, 4 * width), nn.SiLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16 * width, classes))


def fit(network: nn.Module, tiny: TinySet, updates: int = UPDATES, seed: int = 1) -> Iterator[float]:
    """Train on a set with classes; yields the losses."""
    generator = torch.Generator("cpu").manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(updates):
        chosen = torch.randint(len(tiny), (BATCH,), generator=generator)
        x = tiny.pixels[chosen]
        loudness = LOUDEST * torch.rand(len(x), 1, 1, 1, generator=generator)
        loss = F.cross_entropy(network(x + loudness * torch.randn(x.shape, generator=generator)), tiny.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield float(loss.detach())


def fitted(tiny: TinySet, seed: int = 1, go_on: Callable[[], None] = lambda: None) -> nn.Module:
    """A classifier of the set, the same for the same seed. go_on: called after each update, may raise."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(tiny.pixels.shape[1], len(tiny.classes))
    for _ in fit(network, tiny, seed=seed):
        go_on()
    return network.eval().requires_grad_(False)


def of_any_picture(network: nn.Module, tiny: TinySet) -> Callable[[Tensor], Tensor]:
    """A classifier for pictures of any size (b, 1 or 3, h, w): they are brought to those of its set."""
    channels, side = tiny.pixels.shape[1], tiny.pixels.shape[-1]

    def judged(pixels: Tensor) -> Tensor:
        if pixels.shape[1] > channels:
            pixels = pixels.mean(1, keepdim=True)
        if pixels.shape[-1] != side:
            pixels = F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        return network.to(pixels.device)(pixels.expand(-1, channels, -1, -1))

    return judged


def recognised(network: nn.Module, pixels: Tensor, wanted: Tensor) -> float:
    """Share of pictures (n, c, h, w) that are taken for the class asked for (n,)."""
    with torch.no_grad():
        return float((network(pixels).argmax(1) == wanted).float().mean())
