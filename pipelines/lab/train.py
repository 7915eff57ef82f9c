"""Train a small diffusion model from scratch: equation 14 of DDPM (arXiv:2006.11239), a few hundred thousand times.

`run` is a generator of events. After every epoch everything is saved (weights, their average, the optimizer's and the
random state, the place in the epoch), so a run of given epochs that was stopped and resumed ends with the same weights,
bit for bit, as one that was not. With minutes, the learning rate follows the clock.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from ..errors import RequestError
from ..events import Notice
from ..machine.locks import claimed
from ..queue.control import Control
from ..requests import fields_of, make
from . import checkpoints, draw, latentset, sets
from .events import EpochDone, Started, Trained, Update
from .latentset import Frozen
from .learner import Learner
from .requests import Train
from .sampling import ddim, denoiser_of, last

DEFAULT_MINUTES = 3.0
LOCK = ".run.lock"
SAMPLE_STEPS = 10
SAMPLE_COLUMNS = 10
SHOWN_PX = 64  # about the side of a sample
LATENT_SIDE = 128  # px, when the recipe latents is asked for no other

Event = Started | Update | EpochDone | Trained | Notice


def run(request: Train, control: Control | None = None, parts: Frozen | None = None) -> Iterator[Event]:
    """Train until epochs or minutes are over, or until control.stop is set; then save and end.

    parts: for the recipe latents, the frozen VAE and text encoder; left out, those that the request names.
    """
    folder, control = Path(request.output), control or Control()
    saved = _saved(request, folder)
    if saved is not None:
        request = _resumed(request, saved["request"])
    device = draw.device_of(request.device)
    side = request.side or (LATENT_SIDE if request.recipe == "latents" else None)
    tiny = sets.load(request.data, side, request.token)
    yield from map(Notice, tiny.notices)
    if request.recipe == "latents":
        parts = parts or latentset.frozen(Path(request.model) if request.model else latentset.EMBEDDED)
        tiny = latentset.encoded(tiny, parts)
    learner = Learner(request, tiny, device, parts if request.recipe == "latents" else None)
    if saved is not None:
        learner.restore(saved)
    folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder / LOCK, RequestError("Output: another process is training in this folder.", "output")):
        yield from _taught(request, folder, learner, control)


def _taught(request: Train, folder: Path, learner: Learner, control: Control) -> Iterator[Event]:
    """Train to the end, in a folder that nobody else writes into."""
    checkpoints.write_json(folder / "run.json", request.model_dump(exclude={"token", "output"}))
    board = _tensorboard(folder)
    yield Started(len(learner.taught), len(learner.held_out), learner.parameters, learner.epoch, str(learner.device))
    clock = Clock(request, learner)
    stopped = False
    while not (stopped := control.stop.is_set()) and clock.progress() < 1:
        loss = learner.update(clock.progress())
        yield Update(learner.step, learner.epoch, loss, learner.learning_rate, clock.seconds_left())
        if learner.position:  # within an epoch
            continue
        held_out = learner.held_out_loss()
        mean = learner.close_epoch()
        picture = _samples(learner, request, folder)
        learner.elapsed_s = clock.elapsed_s()
        checkpoints.save(folder, learner.state())
        _log(folder, board, learner, mean, held_out)
        yield EpochDone(learner.epoch, learner.step, mean, held_out, clock.seconds_left(), picture)
    learner.elapsed_s = clock.elapsed_s()
    checkpoints.save(folder, learner.state())
    yield Trained(learner.epoch, learner.step, stopped)


class Clock:
    """How far a run is, counted in updates and in minutes, whichever is further."""

    def __init__(self, request: Train, learner: Learner):
        self._request, self._learner = request, learner
        self._begin, self._before_s, self._first = perf_counter(), learner.elapsed_s, learner.step

    def elapsed_s(self) -> float:
        return self._before_s + perf_counter() - self._begin

    def progress(self) -> float:
        """0 at the start, 1 at the end."""
        epochs, minutes = self._request.epochs, self._request.minutes
        by_step = self._learner.step / (epochs * self._learner.updates_per_epoch) if epochs else 0.0
        return max(by_step, self.elapsed_s() / (60 * minutes) if minutes else 0.0)

    def seconds_left(self) -> float:
        """By the speed of this process so far."""
        request, learner = self._request, self._learner
        by_minutes = 60 * request.minutes - self.elapsed_s() if request.minutes else math.inf
        done = max(1, learner.step - self._first)
        steps = request.epochs * learner.updates_per_epoch - learner.step if request.epochs else math.inf
        return max(0.0, min(by_minutes, steps * (perf_counter() - self._begin) / done))


def _saved(request: Train, folder: Path) -> dict[str, Any] | None:
    """The state to go on from, or None for a new run."""
    if request.resume:
        return checkpoints.read(folder)
    if (folder / checkpoints.FILE).exists():
        raise RequestError("Output: this folder holds a run already. Resume it, or choose another folder.", "output")
    return None


def _resumed(request: Train, begun: dict[str, Any]) -> Train:
    """The request a run was begun with, with those values that were given anew and may change."""
    given = {name: getattr(request, name) for name in request.model_fields_set}
    may_change = fields_of(Train, may_change=True)
    for name, value in given.items():
        if name not in may_change and value != begun.get(name, Train.model_fields[name].default):
            title = Train.model_fields[name].title
            raise RequestError(f"{title}: this run was begun with {begun.get(name)}; {value} would make another one.",
                               name)
    return make(Train, **{**begun, **{name: value for name, value in given.items() if name in may_change}})


def _samples(learner: Learner, request: Train, folder: Path) -> Any:
    """A sheet of the averaged network's pictures, from the same noise after every epoch; None when none are asked."""
    if not request.samples:
        return None
    model = learner.model()
    noise, generators = model.noise([request.seed + i for i in range(request.samples)])
    context = learner.tiny.examples(request.samples)
    denoiser = denoiser_of(model.network, model.prediction, None if context is None else context.to(learner.device),
                           2.0, clip=model.parts is None, nothing=model.nothing)
    x = last(ddim(denoiser, model.schedule, noise.to(learner.device), generators, SAMPLE_STEPS)).x
    picture = draw.sheet([model.image(one, max(1, SHOWN_PX // model.side)) for one in x], SAMPLE_COLUMNS)
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    picture.save(folder / "samples" / f"epoch-{learner.epoch:04d}.png")
    return picture


def _tensorboard(folder: Path) -> Any:
    """A writer for TensorBoard's log, or None where its package is not installed."""
    with suppress(ImportError):
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(folder / "tensorboard")
    return None


def _log(folder: Path, board: Any, learner: Learner, mean: float, held_out: float | None) -> None:
    numbers = {"loss": mean, "held_out_loss": held_out, "learning_rate": learner.learning_rate}
    with open(folder / "log.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"epoch": learner.epoch, "step": learner.step, **numbers}) + "\n")
    if board is not None:
        for name, value in numbers.items():
            if value is not None:
                board.add_scalar(name, value, learner.step)
        board.flush()
