"""What a queue's thread does with a job: give its engine the order, have the pictures saved, put sheets together.

Imports no torch: what computes is the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Protocol

from PIL import Image

from ..adapters.merge_request import MergeLora
from ..engine.order import Order
from ..engine.report import Predicts, Speak, Standing
from ..errors import StudioError
from ..events import Event, Notice, Record, Saved
from ..images.grid import grid
from ..library.read.card import ModelCard
from ..queue.child import ChildJob
from ..queue.control import Control
from ..queue.job import Job
from ..settings import Settings
from ..sweeps.grid import Matrix
from ..sweeps.series import Series
from ..training.run.store import Runs, TrainRun
from .assets import Collection
from .orders import order_of
from .recorder import Recorder
from .sheets import labelled_sheets, reopen, shrink


class Engine(Protocol):
    """What computes: in this process, or in one of its own. settings: with one device."""

    settings: Settings

    @property
    def standing(self) -> Standing: ...

    def run(self, order: Order, control: Control) -> Iterator[Event | Predicts]: ...

    def vacate(self) -> None: ...

    def need(self, card: ModelCard, width: int, height: int, batch_size: int = 1, guided: bool = True) -> str: ...

    def forget(self) -> None: ...

    def close(self) -> None: ...


class Sweeps:
    """The small pictures of the grids that are being made, for their sheets, and what was made of them before."""

    def __init__(self, recorder: Recorder):
        self._recorder = recorder
        self._made: dict[Job, dict[int, Image.Image]] = {}
        self._known: dict[Job, dict[str, Record]] = {}
        self._lock = Lock()

    def known(self, lead: Job) -> dict[str, Record]:
        """Text -> picture of the same owner's newest ones: a job that was stopped goes on where it was."""
        with self._lock:
            if lead not in self._known:
                self._forget_ended()
                newest = self._recorder.results.newest(lead.owner or None)
                self._known[lead] = {record.infotext: record for record in newest if not record.is_grid}
            return self._known[lead]

    def keep(self, job: ChildJob, image: Image.Image) -> None:
        """Put a picture aside."""
        with self._lock:
            self._made.setdefault(job.lead, {})[job.number] = shrink(image)

    def take(self, lead: Job) -> dict[int, Image.Image]:
        """The pictures of a job that ends, by number."""
        with self._lock:
            self._known.pop(lead, None)
            return self._made.pop(lead, {})

    def _forget_ended(self) -> None:
        """Jobs that were stopped have not taken theirs."""
        for kept in (self._known, self._made):
            for lead in [lead for lead in kept if lead.done]:
                del kept[lead]


class JobRunner:
    """Turns jobs into events, on one engine. sweeps: shared by the runners of all engines."""

    def __init__(self, engine: Engine, recorder: Recorder, runs: Runs, collection: Collection, sweeps: Sweeps,
                 speak: Speak):
        self.engine = engine
        self._recorder, self._runs, self._collection = recorder, runs, collection
        self._sweeps, self._speak = sweeps, speak

    def __call__(self, job: Job | ChildJob) -> Iterator[Event]:
        """Run a job; the queue closes this on its own thread."""
        if isinstance(job, ChildJob):
            yield from self._child(job)
            return
        kinds = {Matrix: self._sheets, Series: self._end, TrainRun: self._train, MergeLora: self._merge}
        yield from kinds.get(type(job.request), self._plain)(job)

    def _plain(self, job: Job) -> Iterator[Event]:
        """What the engine makes of one request, and a sheet when it is several pictures."""
        sheet: list[tuple[Image.Image, str]] = []
        order = order_of(job, self._collection)
        events = self.engine.run(order, job.control)
        yield from self._recorder.record(events, order, job.owner,
                                         lambda image, one: sheet.append((shrink(image), one.prompt)))
        if len(sheet) > 1:
            labels = [prompt for _, prompt in sheet] if len(job.request.prompts) > 1 else None
            image = grid([image for image, _ in sheet], labels=labels)
            yield from self._recorder.sheet(image, job.request, job.task, job.owner)

    def _child(self, job: ChildJob) -> Iterator[Event]:
        """A picture of a grid or a series, kept small for the sheet. What lies on the disk is not made again."""
        earlier = self._sweeps.known(job.lead).get(self._recorder.infotexts.of(job.request))
        if earlier and (image := reopen(earlier)):
            self._sweeps.keep(job, image)
            yield Saved(earlier)
            return
        order = order_of(job, self._collection)
        events = self.engine.run(order, job.control)
        yield from self._recorder.record(events, order, job.owner, lambda image, _: self._sweeps.keep(job, image))

    def _sheets(self, job: Job) -> Iterator[Event]:
        """A labelled sheet for each z of an X/Y/Z grid, when its pictures are made."""
        matrix = job.request
        places = [place for place, _ in matrix.cells()]
        made = {places[number]: image for number, image in self._made(job).items()}
        for sheet in labelled_sheets(matrix, made, self._speak(job.caller.language)):
            yield from self._recorder.sheet(sheet, matrix.base, job.task, job.owner)

    def _end(self, job: Job) -> Iterator[Event]:
        """The end of a series."""
        self._made(job)
        yield from ()

    def _made(self, job: Job) -> dict[int, Image.Image]:
        made = self._sweeps.take(job)
        if not made:
            raise StudioError("None of the pictures could be made.")
        return made

    def _train(self, job: Job) -> Iterator[Event]:
        """Leave the device to a training run for as long as it lives."""
        self.engine.vacate()
        yield from self._runs.work(job, job.request, self.engine.settings)
        self._collection.library.refresh()  # a whole model may have come of it

    def _merge(self, job: Job) -> Iterator[Event]:
        """A checkpoint of its own, which is then in the list."""
        order = order_of(job, self._collection)
        yield from self._recorder.record(self.engine.run(order, job.control), order, job.owner)
        self._collection.library.refresh()
        self._collection.library.wait_for_scan()
        yield Notice(f"The model {job.request.name} is ready in the model list.")
