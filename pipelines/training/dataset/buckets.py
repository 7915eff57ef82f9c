"""Sizes that pictures are trained at, and the order in which they come. Nothing is ever dropped. Imports no torch."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from functools import lru_cache

from ...images.geometry import Box, Size, box_for
from ..request import Crop

MAX_ASPECT = 2.0
CROPS = 4  # crops of a picture that "random" chooses from: so few that all of them can be kept encoded


@lru_cache(16)
def shapes(resolution: int, step: int) -> tuple[Size, ...]:
    """The sizes of about resolution x resolution pixels, no larger, with sides that are multiples of `step` px."""
    area = max(resolution, step) ** 2
    found = set()
    for width in range(step, int(area**0.5 * MAX_ASPECT) + 1, step):
        height = area // width // step * step
        if height and max(width / height, height / width) <= MAX_ASPECT + 1e-6:
            found |= {(width, height), (height, width)}
    return tuple(sorted(found, key=lambda size: size[0] / size[1]))


def nearest(size: Size, choices: Sequence[Size]) -> Size:
    """The shape whose aspect is nearest; of equal ones the largest."""
    aspect = math.log(size[0] / size[1])
    return min(choices, key=lambda one: (round(abs(math.log(one[0] / one[1]) - aspect), 6), -one[0] * one[1]))


def bucket_of(size: Size, resolution: int, step: int, *, buckets: bool = True) -> Size:
    """The size at which a picture is trained; without buckets a square."""
    if buckets:
        return nearest(size, shapes(resolution, step))
    return (max(step, resolution // step * step),) * 2


def crop_box(size: Size, bucket: Size, crop: Crop, variant: int = 0) -> Box:
    """The part of a picture that fills a bucket. variant: which of the CROPS of "random"."""
    box = box_for("crop", size, bucket)
    spare = size[0] - box.width, size[1] - box.height
    if crop == "top":
        left, top = spare[0] // 2, 0
    elif crop == "random":
        left, top = (round(room * variant / (CROPS - 1)) for room in spare)
    else:
        return box
    return Box(left, top, left + box.width, top + box.height)


def crop_variants(size: Size, bucket: Size, crop: Crop) -> tuple[Box, ...]:
    """Every different part that may be shown."""
    count = CROPS if crop == "random" else 1
    return tuple(dict.fromkeys(crop_box(size, bucket, crop, variant) for variant in range(count)))


def order(groups: Sequence[object], update_size: int, seed: int,
          repeats: Sequence[int] | None = None) -> Iterator[list[int]]:
    """Endless updates: lists of `update_size` indices into `groups`, which holds each picture's bucket.

    repeats: how often each picture comes in an epoch; once, unless given. Most updates hold one bucket; what is left
    of the buckets is gathered in mixed ones, and what is left of those begins the next epoch. It depends on nothing
    but its arguments, so a run that goes on skips what it has had.
    """
    repeats = repeats or [1] * len(groups)
    epoch, carried = 0, []
    while True:
        draw = random.Random(f"{seed} {epoch}")
        items = [index for index in range(len(groups)) for _ in range(repeats[index])]
        draw.shuffle(items)
        by_group: dict[object, list[int]] = {}
        for index in items:
            by_group.setdefault(groups[index], []).append(index)
        updates, left = [], list(carried)
        for members in by_group.values():
            full = len(members) // update_size * update_size
            updates += [members[i : i + update_size] for i in range(0, full, update_size)]
            left += members[full:]
        full = len(left) // update_size * update_size
        updates += [left[i : i + update_size] for i in range(0, full, update_size)]
        carried = left[full:]
        draw.shuffle(updates)
        yield from updates
        epoch += 1
