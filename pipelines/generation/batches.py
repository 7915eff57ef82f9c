"""Which pictures of a request are made at once, and how fast that goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

from ..prompts.texts import each
from ..requests import MAX_SEED, Request

SMOOTHING = 0.3  # weight of the newest step in the shown speed


@dataclass(frozen=True)
class Batch:
    """Pictures that are made at once: of one prompt, with one seed (and variation seed) each. first: counted from 1.

    request: with the prompts of this batch.
    """

    request: Request
    seeds: tuple[int, ...]
    variations: tuple[int, ...]
    first: int

    def part(self, start: int, end: int | None = None) -> Batch:
        """Some of its pictures."""
        return Batch(self.request, self.seeds[start:end], self.variations[start:end], self.first + start)


@dataclass(frozen=True)
class Part:
    """Which of the steps of a picture a pass makes. A step is a model call here: what takes the time.

    before, after: steps of the passes that come before and after it. weight: what a step of the second pass costs, in
    steps of the first; the passes differ in their pixels.
    """

    before: int = 0
    after: int = 0
    weight: float = 1.0


class Pace:
    """Smoothed speed of the steps, and the time that the rest will take."""

    def __init__(self, images: int):
        self._last, self.images_left = perf_counter(), images
        self._step_s = 0.0  # of a step of the first pass; 0 before there was one

    def tick(self, index: int, count: int, batch: int, part: Part = Part()) -> tuple[float, float]:
        """Count one step of `part`; returns (such steps a second, seconds left for the whole request)."""
        now = perf_counter()
        own = part.weight if part.before else 1.0
        took, self._last = (now - self._last) / own, now
        self._step_s = took if not self._step_s else (1 - SMOOTHING) * self._step_s + SMOOTHING * took
        batches_after = max(0, self.images_left - batch) / batch
        after = part.after * part.weight
        left = own * (count - index) + after + batches_after * (part.before + own * count + after)
        return 1 / max(own * self._step_s, 1e-9), self._step_s * left

    def restart(self) -> None:
        """Leave what happened since the last step (encoding, decoding) out of the next one's time."""
        self._last = perf_counter()


def batches(request: Request) -> Iterator[Batch]:
    """The batches of a request.

    Picture i has seed + i; when it is varied, seed and variation seed + i, as AUTOMATIC1111 counts.
    """
    varied, number = request.variation_strength > 0, 0
    for one in each(request):
        for _ in range(request.batch_count):
            numbers = range(number, number + request.batch_size)
            seeds = tuple((request.seed + (0 if varied else i)) % (MAX_SEED + 1) for i in numbers)
            variations = tuple((request.variation_seed + i) % (MAX_SEED + 1) for i in numbers) if varied else ()
            yield Batch(one, seeds, variations, number + 1)
            number += request.batch_size
