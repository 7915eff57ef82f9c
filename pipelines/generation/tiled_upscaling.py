"""A network that enlarges pictures, run over a large one part by part, so that memory does not grow with the picture.

Each part is seen with some of its surroundings, which are cut off again, and fades into its neighbours. So the result
is what the network makes of the whole picture, as far as it looks no further than those surroundings.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from itertools import accumulate, count, groupby, repeat
from operator import attrgetter, mul
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from .windows import Blend, Window, cover, ramp

MAX_PASSES = 3  # of a network over its own answer
PART_PX = 1024  # of an enlarged part's side; a usual network of 64 channels takes about a gigabyte for it
AROUND_PX, SHARED_PX = 16, 16  # of the small picture: what a part sees around itself, and shares with a neighbour

Network = Callable[[torch.Tensor], torch.Tensor]
# Gives (parts made, parts in all) after each part.
Parts = Generator[tuple[int, int], None, Any]


def by_network(image: Image.Image, network: Network, scale: int, size: tuple[int, int], device: torch.device) -> Parts:
    """Enlarge an RGB picture until it is at least as large as asked.

    network: (1, 3, h, w) in 0..1 on the device -> (1, 3, h * scale, w * scale). Gives the picture, in 8 bits a colour
    as all its stages are: on the device lie one part and one row of parts.
    """
    pixels, factors = np.asarray(image), _factors(image.size, scale, size)
    stages = list(accumulate(factors, mul, initial=1))[:-1]
    total = sum(len(_parts(image.height * stage, image.width * stage, scale)) for stage in stages)
    told = zip(count(1), repeat(total), strict=False)
    for factor in factors:
        pixels = yield from _enlarged(pixels, network, scale, factor, device, told)
    return Image.fromarray(pixels)


def _factors(size: tuple[int, int], scale: int, wanted: tuple[int, int]) -> list[int]:
    """How much larger each pass makes the picture: by a divisor of the network's scale, the least that is enough."""
    needed, factors = max(wanted[0] / size[0], wanted[1] / size[1]), []
    while needed > 1 and len(factors) < MAX_PASSES:
        factors.append(next(each for each in range(2, scale + 1)
                            if scale % each == 0 and each >= min(needed, scale)))
        needed /= factors[-1]
    return factors


def _parts(height: int, width: int, scale: int) -> tuple[Window, ...]:
    side = PART_PX // scale
    return cover(height, width, side, side, SHARED_PX / side)


def _enlarged(pixels: np.ndarray, network: Network, scale: int, factor: int, device: torch.device,
              told: Iterator[tuple[int, int]]) -> Parts:
    """One pass: (h, w, 3) bytes -> (h * factor, w * factor, 3); what the network makes too large is averaged."""
    height, width, _ = pixels.shape
    larger = np.empty((height * factor, width * factor, 3), np.uint8)
    drawn = 0  # rows of `larger`
    for top, row in groupby(_parts(height, width, scale), attrgetter("top")):
        windows = tuple(row)
        places = tuple(replace(each, top=0, bottom=each.bottom - top).times(factor) for each in windows)
        strip = Blend(places)
        for window, place in zip(windows, places, strict=True):
            with torch.inference_mode():
                strip.add(place, _part(pixels, window, network, scale, factor, device))
            yield next(told)
        made = strip.result(torch.float32)[0].clamp(0, 1).mul(255).permute(1, 2, 0).cpu().numpy()
        begin, end = top * factor, windows[0].bottom * factor
        shared = drawn - begin
        weight = ramp(2 * shared, shared).numpy()[:shared, None, None]
        made[:shared] = made[:shared] * weight + larger[begin:drawn] * (1 - weight)
        larger[begin:end] = made.round()
        drawn = end
    return larger


def _part(pixels: np.ndarray, window: Window, network: Network, scale: int, factor: int,
          device: torch.device) -> torch.Tensor:
    """(1, 3, h, w) of a window, enlarged, without the surroundings that the network saw."""
    around = Window(max(0, window.top - AROUND_PX), max(0, window.left - AROUND_PX),
                    min(pixels.shape[0], window.bottom + AROUND_PX), min(pixels.shape[1], window.right + AROUND_PX))
    seen = torch.from_numpy(pixels[around.top:around.bottom, around.left:around.right].copy())
    made = network(seen.to(device).permute(2, 0, 1)[None].float() / 255)
    inside = Window(window.top - around.top, window.left - around.left, window.bottom - around.top,
                    window.right - around.left)
    return F.avg_pool2d(inside.times(scale).of(made), scale // factor)
