"""Denoising, step by step: one strip a sampler, both side by side, and the way of each as an animation."""

from __future__ import annotations

from collections.abc import Iterator

from ...events import Event, StepDone
from ...generation.batches import Pace
from .. import filmstrip
from ..filmstrip import Frame, Strip
from ..pages import Film
from ..scene import Made, Scene


def answer(request: Film, scene: Scene) -> Iterator[Event | Made]:
    strips = [Strip(request.sampler, request.steps)]
    if request.beside != "nothing":
        strips.append(Strip(request.beside, request.beside_steps))
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
        yield Made(strip.label, filmstrip.sheet(shown))
        yield Made(f"{strip.label}, predicted x0", filmstrip.animated(shown, frame_ms=250))
    if len(made) > 1:
        columns = min(request.columns, *(len(shown) for _, shown in made))
        yield Made("Predicted x0 at the same shares of the way", filmstrip.side_by_side(made, columns=columns))
