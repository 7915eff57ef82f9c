"""Sample: pictures from a run, the way of the first as a film strip, and DDPM against DDIM."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import torch
import torch.nn.functional as F
from PIL import Image

from ...errors import RequestError
from ...events import Event, StepDone, Tabled
from ...generation.batches import Pace
from ...requests import make
from .. import checkpoints, classifier, draw, filmstrip, sets
from ..checkpoints import Model
from ..context import Made, Scene
from ..page_requests import LabSample
from ..requests import Drawing, Sample
from ..sampling import State, ddim, ddpm, denoiser_of

SHOWN_PX = 96  # about the side of a picture here
FEW = 20  # strides of DDIM in the contest
SHEET_COLUMNS = 8


def answer(request: LabSample, scene: Scene) -> Iterator[Event | Made]:
    model = checkpoints.load_model(scene.shelf.run(request.run_name), draw.device_of(scene.device), scene.frozen())
    enlarge = max(1, SHOWN_PX // model.side)
    asked = make(Sample, **{name: getattr(request, name) for name in Drawing.model_fields})
    if request.contest:
        yield from _contest(request, scene, model, enlarge)
        return
    shown: list[filmstrip.Frame] = []
    steps = len(model.schedule) if request.sampler == "ddpm" else request.steps
    every = max(1, round(steps / request.columns))
    pace = Pace(1)
    for state in draw.walk(asked, model, [asked.seed + i for i in range(asked.count)]):
        shown += filmstrip.frames([state], lambda x: model.image(x, enlarge), every)
        yield _told(state, pace, preview=shown[-1].pictures["x0"])
        scene.go_on()
    yield Made(f"Seeds {request.seed} to {request.seed + request.count - 1}",
               draw.sheet([model.image(x, enlarge) for x in state.x], SHEET_COLUMNS))
    yield Made("The way of the first picture", filmstrip.sheet(shown, scene.say))
    yield Made("Predicted x0, step by step", filmstrip.animated(shown, frame_ms=200))


def _contest(request: LabSample, scene: Scene, model: Model, enlarge: int) -> Iterator[Event | Made]:
    """The same noise by both samplers, all classes in turn. A classifier trained on the run's own set is the judge."""
    if model.parts is not None:
        raise RequestError("Contest: runs of the recipe latents have no classes to recognise.", "contest")
    classes, judge, context = len(model.classes), None, None
    place = next(model.network.parameters()).device
    if classes:
        about = checkpoints.read(scene.shelf.run(request.run_name))["request"]
        judge = classifier.fitted(sets.load(about["data"], about["side"]), go_on=scene.go_on)
        wanted = torch.arange(request.count) % classes
        context = F.one_hot(wanted, classes).float().to(place)
    denoiser = denoiser_of(model.network, model.prediction, context, request.guidance_scale)
    few = min(FEW, len(model.schedule))
    rivals = {f"DDPM, {len(model.schedule)} steps": lambda x, noise: ddpm(denoiser, model.schedule, x, noise),
              f"DDIM, {few} steps": lambda x, noise: ddim(denoiser, model.schedule, x, noise, few)}
    rows = []
    for number, (name, walk) in enumerate(rivals.items(), 1):
        noise, generators = model.noise([request.seed + i for i in range(request.count)])
        begin, pace = perf_counter(), Pace(len(rivals) - number + 1)
        for state in walk(noise.to(place), generators):
            yield _told(state, pace, number, len(rivals))
            scene.go_on()
        seconds, x = perf_counter() - begin, state.x.cpu()
        share = "" if judge is None else f"{classifier.recognised(judge, x, wanted):.0%}"
        rows.append((name, f"{seconds / len(x):.3f} s", share))
        yield Made(name, draw.sheet([model.image(one, enlarge) for one in x], SHEET_COLUMNS))
    yield Tabled("DDPM against DDIM", ("Sampler", "Time a picture", "Recognised"), tuple(rows))


def _told(state: State, pace: Pace, number: int = 1, of: int = 1, preview: Image.Image | None = None) -> StepDone:
    speed, left = pace.tick(state.step, state.steps, 1)
    return StepDone(state.step, state.steps, number, of, speed, left, preview)
