"""How long pictures will take, by how long the last one took. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .. import metadata
from ..errors import RequestError
from ..events import Record
from ..generation.samplers import SAMPLERS, calls
from ..requests import TASKS, Img2Img, Request, Txt2Img, make


def seconds(requests: Iterable[Request], earlier: Sequence[Record]) -> float | None:
    """Estimate the time of concrete requests, or None when nothing was made before to go by.

    earlier: newest first. Time is taken to grow with the model calls and the pixels, and to double with guidance.
    """
    for record in earlier:
        if record.is_grid or not record.seconds or record.task not in TASKS:
            continue
        cls = TASKS[record.task]
        try:
            made = make(cls, **metadata.parse(record.infotext).for_task(cls))
        except RequestError:
            continue
        if work(made):
            return sum(map(work, requests)) * record.seconds / work(made)
    return None


def work(request: Request) -> float:
    """What a request costs, in model calls times pixels; 0 when it does not say its size."""
    if not (request.steps and request.width and request.height):
        return 0.0
    rows = 2 if (request.guidance_scale or 0) > 1 else 1
    share = request.strength if isinstance(request, Img2Img) else 1.0
    cost = share * _calls(request.sampler, request.steps) * request.width * request.height
    if isinstance(request, Txt2Img) and request.hires_scale > 1:
        steps = _calls(request.hires_sampler or request.sampler, request.hires_steps or request.steps)
        cost += steps * request.hires_strength * request.width * request.height * request.hires_scale**2
    return cost * rows * request.batch_size * request.batch_count


def _calls(sampler: str | None, steps: int) -> int:
    return calls(sampler, steps) if sampler in SAMPLERS else steps
