"""Train from scratch: the loss as it falls, samples as they get better, and at the end both to keep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic

from PIL import Image

from ...errors import Cancelled, RequestError
from ...events import Event, Notice, StepDone, Tabled
from ...requests import make
from .. import checkpoints, filmstrip, train
from ..context import Made, Scene
from ..data import HUB
from ..events import EpochDone, Started, Trained, Update
from ..page_requests import NEW, LabTrain
from ..requests import Train, Training

POINTS = 200  # of the loss curve
SMOOTHING = 0.06  # weight of the newest loss in the smoothed one
FIRST_CURVE_S, LATER = 2.0, 0.05  # a curve is told at most so often, and seldomer in a long run: all of them are kept
FRAMES = 40  # of the animation


@dataclass
class Curve:
    """The losses so far, as few points as a page can draw."""

    taught: list[tuple[float, float, str]] = field(default_factory=list)
    held_out: list[tuple[float, float, str]] = field(default_factory=list)
    smoothed: float | None = None

    def add(self, event: Update) -> None:
        old = event.loss if self.smoothed is None else self.smoothed
        self.smoothed = (1 - SMOOTHING) * old + SMOOTHING * event.loss
        self.taught.append((event.step, round(self.smoothed, 5), "training, smoothed"))

    def table(self) -> Tabled:
        rows = [one for points in (self.taught, self.held_out) for one in points[::max(1, len(points) // POINTS)]]
        return Tabled("Loss", ("update", "loss", "curve"), tuple(rows))


def answer(request: LabTrain, scene: Scene) -> Iterator[Event | Made]:
    wanted = _as_train(request, scene)
    curve, sheets, begin, told = Curve(), [], monotonic(), 0.0
    for event in train.run(wanted, scene.control, scene.frozen()):
        match event:
            case Started():
                yield Notice(f"{wanted.output.rpartition('/')[2]}: {event.pictures} pictures, {event.held_out} held "
                             f"out, {event.parameters:,} parameters"
                             + (f", {event.epoch} epochs done before." if event.epoch else "."))
            case Update():
                curve.add(event)
                speed = len(curve.taught) / max(monotonic() - begin, 1e-6)
                yield StepDone(event.step, event.step + round(event.seconds_left * speed), 1, 1, speed,
                               event.seconds_left, sheets[-1] if sheets else None)
            case EpochDone():
                if event.held_out_loss is not None:
                    curve.held_out.append((event.step, round(event.held_out_loss, 5), "held out"))
                if event.samples is not None:
                    sheets.append(event.samples)
                now = monotonic()
                if now - told >= max(FIRST_CURVE_S, LATER * (now - begin)):
                    told = now
                    yield curve.table()
            case Trained():
                yield from _end(event, curve, sheets)
            case Notice():
                yield event


def _end(event: Trained, curve: Curve, sheets: list[Image.Image]) -> Iterator[Event | Made]:
    yield curve.table()
    if sheets:
        yield Made(f"Samples after epoch {event.epoch}", sheets[-1])
    if len(sheets) > 1:
        yield Made("From the first epoch to the last", _animated(sheets))
    if event.stopped:
        yield Notice("Stopped and saved. Choose this run above to go on exactly where it was.")
        raise Cancelled("Stopped.")


def _animated(sheets: list[Image.Image]) -> filmstrip.Animation:
    chosen = sheets[::max(1, len(sheets) // FRAMES)]
    frames = [filmstrip.Frame(i, len(chosen), 0.0, {"x0": sheet}) for i, sheet in enumerate(chosen)]
    return filmstrip.animated(frames, frame_ms=200)


def _as_train(request: LabTrain, scene: Scene) -> Train:
    """What the command line would be asked for: names become folders."""
    common = {name: getattr(request, name) for name in Training.model_fields}
    if request.run_name != NEW:
        folder = scene.shelf.run(request.run_name)
        state = checkpoints.read(folder)
        until = {"epochs": _until(request.epochs, state["epoch"]),
                 "minutes": _until(request.minutes, state["elapsed_s"] / 60)}
        return make(Train, output=str(folder), resume=True, device=scene.device, samples=request.samples, **until)
    if request.epochs is None and request.minutes is None:
        raise RequestError("Minutes: say how long to train, in minutes or in epochs.", "minutes")
    data = HUB + request.hub_data if request.hub_data else scene.shelf.data(request.data)
    return make(Train, data=data, output=str(scene.shelf.new_run(request.hub_data or request.data)),
                token=request.token, device=scene.device, **common)


def _until(asked: float | None, done: float) -> float | None:
    """The end that is asked for, or as much again after one that was reached."""
    return asked if asked is None or asked > done else asked + done
