"""Fine-tune an unconditional model: what it draws before and after, the loss, and advice."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

from ...errors import Cancelled
from ...events import Event, Notice, StepDone, Tabled
from ...requests import make
from .. import finetune
from ..context import Made, Scene
from ..data import HUB
from ..events import Trained, Update
from ..finetune import Sampled
from ..page_requests import LabFineTune
from ..requests import FineTune, Tuning

POINTS = 200
EVERY_S = 2.0


def answer(request: LabFineTune, scene: Scene) -> Iterator[Event | Made]:
    model = HUB + request.hub_model if request.hub_model else \
        str(scene.shelf.unconditional_folder(request.start))
    target = scene.shelf.new_unconditional(request.hub_model.rpartition("/")[2] or request.start)
    asked = make(FineTune, model=model, data=scene.shelf.data(request.data), output=str(target), device=scene.device,
                 **{name: getattr(request, name) for name in Tuning.model_fields})
    losses: list[tuple[int, float, str]] = []
    begin = told = monotonic()
    for event in finetune.run(asked, scene.control):
        match event:
            case Sampled():
                yield Made(event.when.capitalize(), event.sheet)
            case Update():
                losses.append((event.step, round(event.loss, 5), "loss"))
                speed = len(losses) / max(monotonic() - begin, 1e-6)
                yield StepDone(event.step, event.step + round(event.seconds_left * speed), 1, 1, speed,
                               event.seconds_left)
                if monotonic() - told >= max(EVERY_S, (monotonic() - begin) / 20):
                    told = monotonic()
                    yield _curve(losses)
            case Notice():
                yield event
            case Trained():
                yield _curve(losses)
                yield Notice(f"Saved as {target.name}, a diffusers pipeline that can be fine-tuned further here.")
                if event.stopped:
                    raise Cancelled("Stopped.")


def _curve(losses: list[tuple[int, float, str]]) -> Tabled:
    return Tabled("Loss", ("update", "loss", "curve"), tuple(losses[::max(1, len(losses) // POINTS)]))
