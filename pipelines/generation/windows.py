"""Large pictures in parts: overlapping windows of one size, and what was made in each blended without a seam."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil, pi
from typing import Any

import torch

LATENT_PX = 8  # pixels of a side under one latent
VAE_ROOM_BYTES = 6e9  # what the autoencoder may take for one picture; beyond it, it works in windows
VAE_WINDOW_PX, VAE_OVERLAP = 1024, 0.25


@dataclass(frozen=True)
class Window:
    """A part of the last two axes of a tensor; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """The part of x (..., h, w) that lies in the window; a view."""
        return x[..., self.top:self.bottom, self.left:self.right]

    def times(self, factor: int) -> Window:
        """The same part of a picture that is `factor` times as large."""
        return Window(self.top * factor, self.left * factor, self.bottom * factor, self.right * factor)


def cover(height: int, width: int, tile_height: int, tile_width: int, overlap: float) -> tuple[Window, ...]:
    """Cover an area with windows of one size, row by row, evenly spaced.

    overlap: share of a window, 0 to 0.5, that neighbours have in common at least. One window where the area is no
    larger than it.
    """
    rows = _starts(height, tile_height, overlap)
    columns = _starts(width, tile_width, overlap)
    tall, wide = min(height, tile_height), min(width, tile_width)
    return tuple(Window(top, left, top + tall, left + wide) for top, left in product(rows, columns))


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    if length <= tile:
        return [0]
    step = tile - min(round(tile * overlap), tile - 1)
    count = 1 + ceil((length - tile) / step)
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


class Blend:
    """Puts parts together, each weighing less towards its own edges, so that no edge of a window shows.

    The mean of overlapping predictions at every step is MultiDiffusion (Bar-Tal et al. 2023, arXiv:2302.08113, eq. 5);
    soft weights in place of equal ones leave no step where a window begins.
    """

    def __init__(self, windows: tuple[Window, ...]):
        self._windows = windows
        self._sum: torch.Tensor | None = None
        self._weight: torch.Tensor | None = None

    def add(self, window: Window, part: torch.Tensor) -> None:
        """Lay a part (..., h, w) in its window. Several windows: it is added up in float32."""
        if len(self._windows) == 1:
            self._sum = part
            return
        if self._sum is None:
            size = max(each.bottom for each in self._windows), max(each.right for each in self._windows)
            self._sum = torch.zeros((*part.shape[:-2], *size), dtype=torch.float32, device=part.device)
            self._weight = torch.zeros(size, dtype=torch.float32, device=part.device)
            self._feather = _feather(*part.shape[-2:], *_rises(self._windows)).to(part.device)
        window.of(self._sum).add_(part.float() * self._feather)
        window.of(self._weight).add_(self._feather)

    def result(self, dtype: torch.dtype) -> torch.Tensor:
        """The whole; a single window's part comes back as it was."""
        return self._sum if self._weight is None else (self._sum / self._weight).to(dtype)


def by_windows(x: torch.Tensor, windows: tuple[Window, ...], make: Callable[[torch.Tensor], torch.Tensor],
               factor: int = 1) -> torch.Tensor:
    """Put `make` of every window of x together. factor: how many times larger than x its answers are."""
    made = Blend(tuple(window.times(factor) for window in windows))
    for window in windows:
        part = make(window.of(x))
        made.add(window.times(factor), part)
    return made.result(part.dtype)


def _rises(windows: tuple[Window, ...]) -> tuple[int, int]:
    """How far the weights rise from an edge: the smallest overlap of neighbours in each direction, at least 1."""
    def least(spans: set[tuple[int, int]]) -> int:
        return max(1, min((end - start for (_, end), (start, _) in pairwise(sorted(spans))), default=1))

    return least({(each.top, each.bottom) for each in windows}), least({(each.left, each.right) for each in windows})


def _feather(height: int, width: int, rise_y: int, rise_x: int) -> torch.Tensor:
    """(h, w): 1 inside, falling to nearly 0 at the edges as a sine squared, so that two overlapping sides sum to 1."""
    return ramp(height, rise_y)[:, None] * ramp(width, rise_x)[None, :]


def ramp(length: int, rise: int) -> torch.Tensor:
    """(length,): from nearly 0 at both ends to 1, as a sine squared over `rise` places."""
    place = torch.arange(length) + 0.5
    inward = torch.minimum(place, length - place)
    return (inward / rise).clamp(max=1).mul(pi / 2).sin().square()


def vae_windows(vae: Any, height: int, width: int) -> tuple[Window, ...]:
    """The windows, in latents, in which an autoencoder takes a picture that is too large for one go; else ().

    It depends on the picture and the model alone: what is free at the moment must not change a picture. The estimate
    is of the decoder's last block, where activations have the size of the picture.
    """
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    channels = sum(vae.config.block_out_channels[:2]) + vae.config.block_out_channels[1]
    needed = height * width * scale**2 * channels * vae.dtype.itemsize
    tile = VAE_WINDOW_PX // scale
    return cover(height, width, tile, tile, VAE_OVERLAP) if needed > VAE_ROOM_BYTES else ()
