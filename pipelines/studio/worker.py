"""What the queue's thread does with a job: lease the checkpoint, make the pictures, save them and their sheet.

torch is imported here, when the first job runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Any

from PIL import Image

from ..adapters import find
from ..adapters.merge_request import MergeLora, merge_into
from ..errors import Cancelled, OutOfMemory, StudioError
from ..events import Event, ImageReady, Loading, Notice, Saved
from ..generation.upscalers import Upscalers
from ..history.store import Made, Results
from ..images.grid import grid
from ..images.store import ImageStore
from ..lab.assets import Shelf as LabShelf
from ..lab.page_requests import LabJob
from ..library.checkpoints import ModelCard
from ..machine import device
from ..models import estimate
from ..prompts.texts import each, prompt_fields
from ..queue.control import Control
from ..queue.job import Job
from ..requests import Request, pipeline_of
from ..settings import Settings
from ..sweeps.grid import Matrix
from ..sweeps.series import Series
from ..training.run.store import Runs, TrainRun
from .assets import Collection
from .infotexts import Infotexts
from .sheets import count_as_part, labelled_sheets, reopen, shrink


@dataclass(frozen=True)
class Resident:
    """A checkpoint in memory. parked: in host memory, from where it comes back with a copy."""

    name: str
    parked: bool
    size_bytes: int


@dataclass(frozen=True)
class LoadModel:
    """Ask for a checkpoint to be brought into memory."""

    model: str


class Worker:
    """Turns jobs into events, one at a time. Holds the cache of checkpoints, of LoRAs and of autoencoders."""

    def __init__(self, settings: Settings, images: ImageStore, results: Results, runs: Runs,
                 collection: Collection, upscalers: Upscalers, lab_shelf: LabShelf,
                 speak: Callable[[str], Callable[[str], str]] = lambda language: str):
        self._upscalers, self._lab_shelf, self._speak = upscalers, lab_shelf, speak
        self._settings, self._images, self._results, self._runs = settings, images, results, runs
        self._collection, self._card = collection, collection.card
        self._infotexts = Infotexts(collection, settings.data_dir, lambda: self._shelf.last if self._shelf else None)
        self._cache: Any = None
        self._shelf: Any = None
        self._vaes: Any = None
        self._control = Control()  # of the job that runs
        self.device_line = ""

    @property
    def loaded(self) -> tuple[Resident, ...]:
        """The checkpoints in memory."""
        return tuple(Resident(*each) for each in self._cache.placed) if self._cache else ()

    def room_bytes(self, where: str) -> int:
        """Memory of a device for a run and its weights: what is free, and what checkpoints hold."""
        return device.free_bytes(where) + sum(each.size_bytes for each in self.loaded if not each.parked)

    def __call__(self, job: Job) -> Iterator[Event]:
        """Run a job; the queue closes this on its own thread."""
        self._control = job.control
        self._open()
        device.make_current(self._device)  # which is a thread's own
        kinds = {LoadModel: self._bring, Matrix: self._matrix, Series: self._series, TrainRun: self._train,
                 MergeLora: self._merge, LabJob: self._lab}
        yield from kinds.get(type(job.request), self._single)(job, job.request)

    def forget(self) -> None:
        """Let go of everything in memory: a thread that hangs holds it, and may never give it back."""
        self._cache = self._shelf = self._vaes = None

    def _bring(self, job: Job, asked: LoadModel) -> Iterator[Event]:
        """Load a checkpoint that is not in memory yet."""
        card = self._card(asked.model)
        yield from self._loading(card)
        with self._cache.lease(card, card.tasks[0]):
            return

    def _train(self, job: Job, run: TrainRun) -> Iterator[Event]:
        """Leave the device to a training run for as long as it lives."""
        self._vaes.clear()
        self._cache.vacate()
        yield from self._runs.work(job, run)
        self._collection.library.refresh()  # a whole model may have come of it

    def _single(self, job: Job, request: Request) -> Iterator[Event]:
        """The pictures of one request, and a sheet when there are several."""
        sheet: list[tuple[Image.Image, str]] = []
        yield from self._pictures(job, request, lambda image, one: sheet.append((shrink(image), one.prompt)))
        if len(sheet) > 1:
            labels = [prompt for _, prompt in sheet] if len(request.prompts) > 1 else None
            yield from self._save_sheet(job, request, grid([image for image, _ in sheet], labels=labels))

    def _cells(self, job: Job, made: dict[tuple[int, int, int], Image.Image]) -> Iterator[Event]:
        """Every picture of a grid or a series, put small into `made`. What lies on the disk is not made again.

        One that fails is said and left out; the others are made.
        """
        asked = job.request
        known = {record.infotext: record for record in self._results.today(job.owner or None, limit=10_000)
                 if not record.is_grid}
        for number, (place, request) in enumerate(asked.cells()):
            if job.control.stop.is_set() or job.control.leave.is_set():
                raise Cancelled("Stopped.")

            def keep(image: Image.Image, _: Request, place: tuple = place) -> None:
                made[place] = shrink(image)

            earlier = known.get(self._infotexts.of(request))
            if earlier and (image := reopen(earlier)):
                made[place] = image
                yield Saved(earlier)
                continue
            try:
                for event in self._pictures(job, request, keep):
                    yield count_as_part(event, number, len(asked))
            except Cancelled:
                raise
            except StudioError as error:
                yield Notice(f"Picture {number + 1} of {len(asked)} was left out. {error}")
        if not made:
            raise StudioError("None of the pictures could be made.")

    def _matrix(self, job: Job, matrix: Matrix) -> Iterator[Event]:
        """Every cell of an X/Y/Z grid, and a labelled sheet for each z."""
        made: dict[tuple[int, int, int], Image.Image] = {}
        yield from self._cells(job, made)
        for sheet in labelled_sheets(matrix, made, self._speak(job.caller.language)):
            yield from self._save_sheet(job, matrix.base, sheet)

    def _series(self, job: Job, series: Series) -> Iterator[Event]:
        """Every picture of a series."""
        yield from self._cells(job, {})

    def _lab(self, job: Job, asked: LabJob) -> Iterator[Event]:
        """What a page of the lab wants to see, of a checkpoint or of models of the lab's own."""
        from ..lab import run_page as lab

        folder = self._settings.data_dir / "lab"
        scene = lab.Scene(self._lab_shelf, self._images.open, job.control, self._settings.device,
                          say=self._speak(job.caller.language))
        if not asked.model:
            yield from lab.run(asked, scene, folder, self._settings.embed_metadata)
            return
        card = self._card(asked.model)
        yield from self._loading(card)
        with self._cache.lease(card, card.tasks[0], partial(self._with_gradients, card, asked)) as lease:
            scene = replace(scene, pipe=lease.pipe, family=lease.family, placement=lease.placement,
                            native_px=card.native_size, model=card.name)
            yield from lab.run(asked, scene, folder, self._settings.embed_metadata)

    def _with_gradients(self, card: ModelCard, asked: LabJob, usual: Any) -> Any:
        through = asked.request.gradients
        return estimate.for_gradients(card, usual, through, self.room_bytes(usual.device)) if through else usual

    def _merge(self, job: Job, request: MergeLora) -> Iterator[Event]:
        card = self._card(request.model)
        yield from self._loading(card)
        with self._cache.lease(card, card.tasks[0]) as lease:
            entry = find.lookup(self._collection.loras([request.lora]), request.lora)
            yield from map(Notice, merge_into(request, lease, entry.path, self._settings.data_dir / "models"))
        self._collection.library.refresh()
        self._collection.library.wait_for_scan()
        yield Notice(f"The model {request.name} is ready in the model list.")

    def _pictures(self, job: Job, request: Request, keep: Callable[[Image.Image, Request], None]) -> Iterator[Event]:
        """Make and save the pictures of a request; `keep` is given each."""
        from ..generation import generate

        card = self._card(request.model)
        yield from self._loading(card)
        begin = monotonic()
        with self._cache.lease(card, pipeline_of(job.task), partial(self._placed, card, request)) as lease:
            if request.vae:
                vae = self._vaes.load(self._collection.vae(request.vae), lease, self._cache.make_room)
                lease.pipe.register_modules(vae=vae)
            vectors, faults = self._vectors(request, lease)
            yield from map(Notice, faults)
            # Weights that come layer by layer, or in fewer bits, are not there to be added to.
            whole = lease.placement.offload == "none" and not lease.placement.weights
            attached = partial(self._shelf.attached, merge=self._settings.merge_loras and whole)
            for event in generate.run(request, lease.pipe, lease.family, self._images.open, job.control,
                                      attached, self._upscalers.enlarge, vectors):
                if not isinstance(event, ImageReady):
                    yield event
                    continue
                now = monotonic()
                text = self._infotexts.of(event.request, event.extra)
                yield from self._results.save(Made(event.image, text, event.request.seed, job.task, now - begin,
                                                   job.owner))
                keep(event.image, event.request)
                begin = now

    def _placed(self, card: ModelCard, request: Request, usual: Any) -> Any:
        from ..generation.fitting import largest_pass

        size = largest_pass(request)
        if not all(size):  # a picture that is only enlarged says none
            return usual
        needed = estimate.need(card, usual, *size, request.batch_size, (request.guidance_scale or 0) > 1)
        return estimate.for_run(usual, needed, self._settings, self.room_bytes(usual.device))

    def _vectors(self, request: Request, lease: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The embeddings that the request names, and a sentence about each that cannot be used."""
        from ..library.embeddings import named, vectors

        texts = [getattr(one, name) for one in each(request) for name in prompt_fields(type(one))]
        entries = named(self._collection.embeddings(), texts)
        if not entries:
            return {}, ()
        if not lease.family.reads_embeddings:
            told = ", ".join(entry.name for entry in entries)
            return {}, (f"Embeddings are not read for {lease.family.label}: {told} was read as words.",)
        encoders = {name: getattr(lease.pipe, name) for _, name in lease.family.text_encoders}
        widths = {name: encoder.get_input_embeddings().embedding_dim for name, encoder in encoders.items()}
        return vectors(entries, texts, widths)

    def _save_sheet(self, job: Job, request: Request, sheet: Image.Image) -> Iterator[Event]:
        yield from self._results.save(Made(sheet, self._infotexts.of(request), request.seed, job.task, 0.0, job.owner,
                                           is_grid=True))

    def _loading(self, card: ModelCard) -> Iterator[Event]:
        if not self._cache.holds(card):
            yield Loading(card.title)

    def _open(self) -> None:
        if self._cache is not None:
            return
        from ..adapters.cache import Shelf
        from ..models import cache
        from ..models.vae_cache import Vaes

        settings = self._settings
        host = device.budget_bytes("cpu", settings.host_budget_gb)
        self._device = device.choose(settings.device, unet_parameters=0, half_vae=True).device
        own = host if self._device == "cpu" else device.budget_bytes(settings.device, settings.device_budget_gb)
        self._shelf, self._vaes = Shelf(self._collection.loras), Vaes()
        self._device_bytes = own
        self._cache = cache.PipelineCache(self._load, cache.Budget(own, host), beside=self._vaes)

    def _go_on(self) -> None:
        """Raise Cancelled when the running job was stopped."""
        if self._control.stop.is_set():
            raise Cancelled("Stopped.")

    def _load(self, card: ModelCard) -> tuple[dict[str, Any], Any, int]:
        from ..machine import memory
        from ..models import loading

        placement = estimate.placement_for(card, self._settings, self._device_bytes)
        components = None
        try:
            components = loading.load(card, placement, offline=self._settings.offline,
                                      tried=partial(self._collection.note_trial, card), go_on=self._go_on)
        except Exception as error:
            if not memory.is_out_of_memory(error):
                raise
        if components is None:  # raised here, because the caught error keeps the tensors
            memory.free()
            raise OutOfMemory(estimate.full(card, placement))
        self.device_line = device.describe(placement.device, placement.dtype)
        return components, placement, loading.bytes_of(components)
