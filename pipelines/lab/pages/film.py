"""Denoising, step by step: one strip a sampler, both side by side, and the way of each as an animation."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import RequestError
from ...events import Event, StepDone
from ...generation.batches import Pace
from .. import filmstrip
from ..context import Made, Scene
from ..filmstrip import Frame, Strip
from ..page_requests import Film

MOST_STEPS, MOST_STRIPS = 60, 6


def answer(request: Film, scene: Scene) -> Iterator[Event | Made]:
    strips = _strips(request)
    pace, made = Pace(len(strips)), []
    for number, strip in enumerate(strips, 1):
        pace.images_left = len(strips) - number + 1
        shown: list[Frame] = []
        paint, every = filmstrip.paint_latents(scene.pipe), max(1, round(strip.steps / request.columns))
        states = scene.states(strip.sampler, strip.steps, request.prompt, request.guidance_scale, request.seed)
        for state in states:
            shown += filmstrip.frames([state], paint, every)
            speed, left = pace.tick(state.step, state.steps, 1)
            yield StepDone(state.step, state.steps, number, len(strips), speed, left, shown[-1].pictures["x0"])
            scene.go_on()
        made.append((strip, shown))
        yield Made(strip.label, filmstrip.sheet(shown, scene.say))
        yield Made(f"{strip.label}, predicted x0", filmstrip.animated(shown, form=request.animation, frame_ms=250))
    if len(made) > 1:
        columns = min(request.columns, *(len(shown) for _, shown in made))
        yield Made("Predicted x0 at the same shares of the way",
                   filmstrip.side_by_side(made, columns=columns, say=scene.say))


def _strips(request: Film) -> list[Strip]:
    """The run asked for, and each other sampler with each other number of steps."""
    counts = [int(number) for number in request.beside_steps.split(",")]
    if not all(1 <= count <= MOST_STEPS for count in counts):
        raise RequestError(f"Steps of the others: each lies between 1 and {MOST_STEPS}.", "beside_steps")
    others = [Strip(sampler, count) for sampler in (request.beside, request.another) if sampler != "nothing"
              for count in counts]
    strips = list(dict.fromkeys([Strip(request.sampler, request.steps), *others]))
    if len(strips) > MOST_STRIPS:
        raise RequestError(f"Steps of the others: these would be {len(strips)} runs. At most {MOST_STRIPS} fit side by "
                           "side.", "beside_steps")
    return strips
