"""Kinds of work that can be asked for. Each checks what was asked and makes it concrete: one road into the queue.

To add a kind, write a class with `concrete` here, and what runs it into the tables of runner.py and engine/engine.py.
Requests and grids are asked for as they are; `work_of` finds their kind.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ..adapters import merge_request
from ..adapters.merge_request import MergeLora
from ..engine.order import LoadModel
from ..errors import RequestError
from ..images.store import ImageStore
from ..lab import page_requests
from ..lab.assets import Shelf
from ..prompts.texts import each
from ..queue.job import Job
from ..queue.jobs import LOAD
from ..queue.workload import pixel_steps
from ..requests import Request, changed, make, open_seeds, task_of
from ..requests.caller import Caller
from ..settings import Settings
from ..sweeps.grid import Matrix, check
from ..sweeps.series import Series, vary
from ..training.dataset.store import Datasets
from ..training.request import TrainLora
from ..training.run.store import Runs, TrainRun
from . import limits
from .assets import Collection
from .resolver import Resolver
from .training import Training

TRAIN, MERGE = "train", "merge"


@dataclass(frozen=True)
class Stores:
    """What work may look up while it is made concrete. last: the newest job of a page (id, task)."""

    settings: Settings
    images: ImageStore
    collection: Collection
    resolver: Resolver
    datasets: Datasets
    runs: Runs
    lab: Shelf
    training: Training
    last: Callable[[str, str], Job | None]


@dataclass(frozen=True)
class Concrete:
    """What goes into the queue.

    request: for the runner. pixel_steps: how much work it is; 0 where nobody counts. parts: the requests that it is
    made of, for one that several engines may share.
    """

    request: Any
    task: str
    pixel_steps: int = 0
    parts: tuple[Request, ...] = ()


class Work(Protocol):
    """A kind of work."""

    def concrete(self, stores: Stores, caller: Caller) -> Concrete:
        """Check what was asked and fill in what was left open. Raises RequestError, ModelError or StudioError."""
        ...


@dataclass(frozen=True)
class Draw:
    """Pictures of one request."""

    request: Request

    def concrete(self, stores: Stores, caller: Caller) -> Concrete:
        return _drawn(stores.resolver.resolve(self.request), self.request, stores, caller)


@dataclass(frozen=True)
class DrawGrid:
    """An X/Y/Z grid. Asked for again after a stop, it goes on."""

    matrix: Matrix

    def concrete(self, stores: Stores, caller: Caller) -> Concrete:
        def build(base: Request, earlier: Matrix | Series | None) -> Matrix:
            seeded = replace(self.matrix, base=_single(stores, base))
            made = seeded.seeded(earlier if isinstance(earlier, Matrix) else None)
            check(made)
            varied = {} if "dynamic" in (axis.field for axis in made.axes) else {"dynamic": base.dynamic}
            cells = (changed(cell, **varied) for _, cell in made.cells())
            return replace(made, requests=tuple(_single(stores, cell) for cell in cells))

        return _drawn(_begun_or_new(self.matrix.base, build, stores, caller), self.matrix.base, stores, caller)


@dataclass(frozen=True)
class DrawSeries:
    """A picture of every prompt (values of the request's fields) and of every stored picture, as one job.

    Asked for again after a stop, it goes on.
    """

    base: Request
    prompts: Sequence[dict[str, Any]] = ()
    pictures: Sequence[str] = ()

    def concrete(self, stores: Stores, caller: Caller) -> Concrete:
        def build(base: Request, earlier: Matrix | Series | None) -> Series:
            asked = [stores.resolver.resolve(one) for one in vary(base, self.prompts, self.pictures)]
            return Series(base, tuple(single for one in asked for single in each(one)))

        return _drawn(_begun_or_new(self.base, build, stores, caller), self.base, stores, caller)


@dataclass(frozen=True)
class AskLab:
    """What a page of the lab shows. values: of the page's request, and model, a name from the list."""

    page: str
    values: dict[str, Any] = field(default_factory=dict)

    def concrete(self, stores: Stores, caller: Caller) -> Concrete:
        values = dict(self.values)
        card = stores.collection.card(values.pop("model", None))
        request = make(page_requests.PAGES[self.page], **values)
        looks = request.looks_into_checkpoint or stores.lab.needs_checkpoint(request)
        if looks:
            limits.need_own_loop(card, "The pages of the lab")
        if request.trains:
            stores.training.check_allowed()
        page_requests.check_hub(request, stores.settings)
        job = page_requests.LabJob(self.page, request, card.name if looks else "")
        return Concrete(job, page_requests.TASK + self.page)


@dataclass(frozen=True)
class Train:
    """A training run on a dataset; values: of TrainLora, model being a name from the list.

    only_probe: try a few steps, forecast the rest, and end.
    """

    dataset: str
    values: dict[str, Any] = field(default_factory=dict)
    only_probe: bool = False

    def concrete(self, stores: Stores, caller: Caller) -> Concrete:
        stores.training.check_allowed()
        values = dict(self.values)
        card = stores.collection.card(values.pop("model", None))
        limits.need_own_loop(card, "Training")
        if card.path is None:
            raise RequestError(f"Model: {card.title} is not on this machine yet. Make a picture with it first.",
                               "model")
        if values.get("prior_data"):
            values["prior_data"] = str(stores.datasets.folder(values["prior_data"]))
        if card.predicts_by in ("person", "trial"):  # a run keeps it, whatever is chosen for the model later
            values["prediction_type"] = card.scheduler["prediction_type"]
        config = make(TrainLora, **{"output": "loras", **values, "model": str(card.path),
                                    "data": str(stores.datasets.folder(self.dataset))})
        stores.training.check_not_waiting(config.name)
        return Concrete(TrainRun(stores.runs.prepare(config), "probe" if self.only_probe else "begin"), TRAIN)


@dataclass(frozen=True)
class ResumeRun:
    """A stopped, paused or broken run, to go on exactly where it was; one that has not begun begins."""

    run: str

    def concrete(self, stores: Stores, caller: Caller) -> Concrete:
        stores.training.check_allowed()
        stores.training.check_not_waiting(self.run)
        card = stores.runs.card(self.run)
        if not card.state.can_resume:
            raise RequestError(f"Run: {self.run} is {card.state.how} and cannot go on.", "name")
        return Concrete(TrainRun(self.run, "resume"), TRAIN)


@dataclass(frozen=True)
class Merge:
    """A LoRA merged into a model, as a model of its own; values: of MergeLora."""

    model: str | None
    values: dict[str, Any] = field(default_factory=dict)

    def concrete(self, stores: Stores, caller: Caller) -> Concrete:
        stores.training.check_allowed()
        request = make(MergeLora, model=stores.collection.card(self.model).name, **self.values)
        merge_request.check(request, stores.settings.data_dir / "models")
        return Concrete(request, MERGE)


@dataclass(frozen=True)
class Load:
    """A checkpoint brought into memory, in its turn."""

    model: str

    def concrete(self, stores: Stores, caller: Caller) -> Concrete:
        return Concrete(LoadModel(stores.collection.card(self.model).name), LOAD)


def work_of(asked: Work | Request | Matrix) -> Work:
    """The kind of work that a request or a grid is; work itself stays as it is."""
    if isinstance(asked, Request):
        return Draw(asked)
    return DrawGrid(asked) if isinstance(asked, Matrix) else asked


def _drawn(request: Any, asked: Request, stores: Stores, caller: Caller) -> Concrete:
    """Pictures to be made, with how much work they are where that is limited."""
    def size_of(id: str) -> tuple[int, int]:
        stored = stores.images.get(id)
        return stored.width, stored.height

    parts = tuple(cell for _, cell in request.cells()) if isinstance(request, Matrix | Series) else ()
    return Concrete(request, task_of(asked), pixel_steps(request, size_of) if caller.is_guest else 0, parts)


def _single(stores: Stores, request: Request) -> Request:
    """Resolve a request of one prompt. Raises RequestError for one that stands for several."""
    resolved = stores.resolver.resolve(request)
    if resolved.texts:
        raise RequestError(f"Grid: the prompt stands for {len(resolved.texts)} prompts. A grid is made of one; "
                           "others can be the values of an axis.", "prompt")
    return resolved


Build = Callable[[Request, Matrix | Series | None], Matrix | Series]


def _begun_or_new(base: Request, build: Build, stores: Stores, caller: Caller) -> Matrix | Series:
    """A grid or a series; one with random seeds takes those of the same one that was stopped."""
    drawn = {name: secrets.randbelow(2**32) for name in open_seeds(base)}
    last = stores.last(caller.page, task_of(base)) if caller.page else None
    if last is not None and last.stopped and isinstance(last.request, Matrix | Series):
        again = build(changed(base, **{name: getattr(last.request.base, name) for name in drawn}), last.request)
        if again == last.request:
            return again
    return build(changed(base, **drawn), None)
