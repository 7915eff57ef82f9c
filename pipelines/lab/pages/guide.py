"""Guidance: the same noise without, with half and with all of the pull, and how the pull changes on the way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...diffusion.noise_schedules import Schedule
from ...errors import RequestError
from ...events import Event, StepDone, Tabled
from ...generation.batches import Pace
from ...images.grid import grid
from ...requests import make
from .. import checkpoints, classifier, data, draw, finetune, guidance, scorer, sets
from ..checkpoints import Model
from ..context import Made, Scene
from ..guidance import Means, Scorer
from ..latent import TextDenoiser, decoder, start, walk
from ..page_requests import BUNDLED_RUN, CHECKPOINT, OWN_CLASSES, LabGuide
from ..requests import Guide
from ..sampling import Denoiser, ddim

SHARES = (0.0, 0.5, 1.0)  # of the scale, one row each
SHOWN_PX = 96
POINTS = 60


@dataclass
class Subject(ABC):
    """What is steered: a plain denoiser, what the goals need, and how to walk and show."""

    scene: Scene
    request: LabGuide

    @abstractmethod
    def denoiser(self) -> Denoiser:
        """What draws without any guidance."""

    @abstractmethod
    def means(self) -> Means:
        """What the goals need."""

    @abstractmethod
    def walk(self, denoiser: Denoiser) -> Iterator[tuple[int, int, Tensor]]:
        """(step, steps, predicted x0)."""

    @abstractmethod
    def pixels(self, x0: Tensor) -> Tensor:
        """(b, c, h, w) in -1..1."""

    @abstractmethod
    def schedule(self) -> Schedule:
        """How the noise goes down."""

    @property
    def seeds(self) -> list[int]:
        return [self.request.seed + i for i in range(self.request.count)]

    def scorer(self) -> Scorer | None:
        """What the goal text needs."""
        return scorer.find(self.scene) if self.request.goal == "text" else None

    def judge(self, own: str = "") -> dict[str, Any]:
        """The classifier and the class that the goal classifier needs. own: the run that is steered."""
        request = self.request
        if request.goal != "classifier":
            return {}
        name = own if request.judge == OWN_CLASSES else request.judge
        if not name:
            raise RequestError("Classifier: this model has no classes of its own. Choose another's, such as "
                               f"{BUNDLED_RUN}.", "judge")
        about = checkpoints.read(self.scene.shelf.run(name))["request"]
        tiny = sets.load(about["data"], about["side"])
        if len(tiny.classes) < 2:
            raise RequestError(f"Classifier: {name} was not trained on several. Choose another run.", "judge")
        weights = draw.class_weights(request.label, tiny.classes)
        if len(weights) != 1:
            raise RequestError(f"Class: the goal classifier needs one of {', '.join(tiny.classes)}.", "label")
        network = classifier.fitted(tiny, go_on=self.scene.go_on)
        return {"classifier": classifier.of_any_picture(network, tiny), "label": next(iter(weights))}

    def reference(self, side: int, channels: int) -> Tensor | None:
        if self.request.goal != "reference" or not self.request.image:
            return None
        square = data.square(self.scene.opened(self.request.image, 1024), side)
        pixels = data.pixels_of(square[None])
        return pixels.mean(1, keepdim=True) if channels == 1 else pixels


class OfCheckpoint(Subject):
    """The loaded text model. Losses look at its latents through the decoder."""

    def denoiser(self) -> Denoiser:
        scene, request = self.scene, self.request
        return TextDenoiser(scene.pipe, scene.family, request.prompt, guidance_scale=request.guidance_scale)

    def means(self) -> Means:
        return Means(decode=decoder(self.scene.pipe), scorer=self.scorer(), **self.judge(),
                     reference=self.reference(self.scene.native_px, 3))

    def walk(self, denoiser: Denoiser) -> Iterator[tuple[int, int, Tensor]]:
        scene, side = self.scene, self.scene.native_px
        scheduler = scene.scheduler(self.request.sampler, self.request.steps)
        latents, generators = start(scene.pipe, scheduler, side, side, self.seeds)
        for state in walk(denoiser, self.request.sampler, scheduler, latents, generators):
            yield state.step, state.steps, state.view.x0

    def pixels(self, x0: Tensor) -> Tensor:
        with torch.no_grad():
            return decoder(self.scene.pipe)(x0).clamp(-1, 1)

    def schedule(self) -> Schedule:
        abar = self.scene.pipe.scheduler.alphas_cumprod.double().cpu()
        return Schedule("this model's", abar.sqrt(), (1 - abar).sqrt())


class OfRun(Subject):
    """A model that was trained here."""

    def __init__(self, scene: Scene, request: LabGuide):
        super().__init__(scene, request)
        if scene.shelf.is_of_latents(request.subject):
            raise RequestError("Model: runs of the recipe latents cannot be steered here. Choose another one.",
                               "subject")
        self._model: Model = checkpoints.load_model(scene.shelf.run(request.subject), draw.device_of(scene.device))

    def denoiser(self) -> Denoiser:
        label = "" if self.request.goal == "classifier" else self.request.label
        return draw.denoiser_for(self._model, label, self.request.guidance_scale, self.request.count)

    def means(self) -> Means:
        return Means(scorer=self.scorer(), **self.judge(self.request.subject),
                     reference=self.reference(self._model.side, self._model.shape.channels))

    def walk(self, denoiser: Denoiser) -> Iterator[tuple[int, int, Tensor]]:
        noise, generators = self._model.noise(self.seeds)
        place = next(self._model.network.parameters()).device
        for state in ddim(denoiser, self._model.schedule, noise.to(place), generators, self.request.steps):
            yield state.step, state.steps, state.view.x0

    def pixels(self, x0: Tensor) -> Tensor:
        return x0.clamp(-1, 1)

    def schedule(self) -> Schedule:
        return self._model.schedule


class OfPipeline(Subject):
    """An unconditional model in diffusers' form. It knows no classes."""

    def __init__(self, scene: Scene, request: LabGuide):
        super().__init__(scene, request)
        self._pipe = finetune.load(scene.shelf.unconditional_folder(request.subject), draw.device_of(scene.device))
        self._pipe.unet.requires_grad_(False)

    def denoiser(self) -> Denoiser:
        return finetune.denoiser_for(self._pipe)

    def means(self) -> Means:
        config = self._pipe.unet.config
        return Means(scorer=self.scorer(), **self.judge(),
                     reference=self.reference(config.sample_size, config.in_channels))

    def walk(self, denoiser: Denoiser) -> Iterator[tuple[int, int, Tensor]]:
        for state in ddim(denoiser, self.schedule(), *finetune.noise_of(self._pipe, self.seeds), self.request.steps):
            yield state.step, state.steps, state.view.x0

    def pixels(self, x0: Tensor) -> Tensor:
        return x0.clamp(-1, 1)

    def schedule(self) -> Schedule:
        return finetune.schedule_of(self._pipe)


def subject_of(scene: Scene, request: LabGuide) -> Subject:
    """What the request names: the checkpoint, a run, or an unconditional pipeline."""
    if request.subject == CHECKPOINT:
        return OfCheckpoint(scene, request)
    return (OfRun if request.subject in scene.shelf.runs() else OfPipeline)(scene, request)


def answer(request: LabGuide, scene: Scene) -> Iterator[Event | Made]:
    subject = subject_of(scene, request)
    yield _curves(subject.schedule())
    means = subject.means()
    asked = make(Guide, **{name: getattr(request, name) for name in Guide.model_fields})
    loss = guidance.goal(asked, means)
    rows, scores, pace = [], [], Pace(len(SHARES))
    for number, share in enumerate(SHARES, 1):
        pace.images_left = len(SHARES) - number + 1
        steered = guidance.asked(asked.model_copy(update={"scale": share * request.scale}), subject.denoiser(), means)
        for step, steps, x0 in subject.walk(steered):  # noqa: B007 - the last one is the picture
            speed, left = pace.tick(step, steps, 1)
            yield StepDone(step, steps, number, len(SHARES), speed, left)
            scene.go_on()
        pixels = subject.pixels(x0)
        with torch.no_grad():
            scores.append((f"{share * request.scale:g}", f"{float(loss(pixels).mean()):.4g}",
                           *(f"{float(value):+.2f}" for value in pixels.mean((0, 2, 3)))))
        rows += [data.to_image(one, max(1, SHOWN_PX // one.shape[-1])) for one in pixels]
        yield Tabled("What came of it", ("Scale", "Loss of the pictures", *COLOURS[pixels.shape[1]]), tuple(scores))
    yield Made("From no pull to all of it, the same noise in each column",
               grid(rows, columns=request.count, row_labels=[f"scale {share * request.scale:g}" for share in SHARES],
                    say=scene.say))
    if request.goal == "reference":
        yield Made("The reference", data.to_image(means.reference[0], max(1, SHOWN_PX // means.reference.shape[-1])))


COLOURS = {3: ("Mean red", "Mean green", "Mean blue"), 1: ("Mean brightness",)}


def _curves(schedule: Schedule) -> Tabled:
    """Each choice of the weight from noise (0) to picture (1)."""
    rows = []
    for name, weight in guidance.OVER_TIME.items():
        for i in range(POINTS):
            share = i / (POINTS - 1)
            abar = float(schedule.alphas_cumprod[round((1 - share) * (len(schedule) - 1))])
            rows.append((round(share, 3), round(weight(abar), 4), name))
    return Tabled("Weight over time", ("from noise to picture", "weight", "choice"), tuple(rows))
