"""Turns orders into events on one device: leases the checkpoint, attaches what the order names, makes the pictures.

torch is imported here, when the first order runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from ..adapters import find
from ..adapters.merge_request import MergeLora, merge_into
from ..errors import Cancelled
from ..events import Event, Loading, Notice
from ..generation.upscalers import Upscalers
from ..images.store import ImageStore
from ..lab.assets import Shelf as LabShelf
from ..lab.page_requests import LabJob
from ..library.checkpoints import ModelCard
from ..library.entry import LibraryEntry
from ..machine import device
from ..models import estimate
from ..prompts.texts import each, prompt_fields
from ..queue.control import Control
from ..requests import Request, pipeline_of
from ..settings import Settings
from ..training.dataset.store import Datasets
from .order import Assets, LabFiles, LoadModel, Order
from .report import Predicts, Resident, Speak, Standing, in_english


class Engine:
    """The weights of one device, and what is done with them, one order at a time.

    Holds the cache of checkpoints, of LoRAs and of autoencoders. settings: with one device. speak: for words that are
    drawn into pictures.
    """

    def __init__(self, settings: Settings, speak: Speak = in_english):
        self.settings, self._speak = settings, speak
        self._images = ImageStore(settings.data_dir / "inputs")
        self._upscalers = Upscalers(settings)
        self._datasets = Datasets(settings.data_dir / "datasets", settings.dataset_dir)
        self._cache: Any = None
        self._adapters: Any = None
        self._vaes: Any = None
        self._control = Control()  # of the order that runs
        self._assets = Assets()
        self._found: list[Predicts] = []
        self._device_line = ""

    @property
    def standing(self) -> Standing:
        """What is in memory, and where."""
        loaded = tuple(Resident(*each) for each in self._cache.placed) if self._cache else ()
        return Standing(loaded, self._device_line)

    def run(self, order: Order, control: Control | None = None) -> Iterator[Event | Predicts]:
        """Run an order. Raises StudioError, and Cancelled when stopped. Close it on the thread that runs it."""
        self._control, self._assets = control or Control(), order.assets
        self.open()
        device.make_current(self._device)  # which is a thread's own
        kinds = {LoadModel: self._load_only, MergeLora: self._merge, LabJob: self._lab}
        yield from kinds.get(type(order.request), self._draw)(order)

    def vacate(self) -> None:
        """Leave the device to another process."""
        if self._cache is not None:
            self._vaes.clear()
            self._cache.vacate()

    def forget(self) -> None:
        """Let go of everything in memory: a thread that hangs holds it, and may never give it back."""
        self._cache = self._adapters = self._vaes = None

    def close(self) -> None:
        """Leave everything to the garbage collector: a thread may still be at work."""

    def need(self, card: ModelCard, width: int, height: int, batch_size: int = 1, guided: bool = True) -> str:
        """Say how much memory pictures of that size (px) will take of what is free."""
        where = device.choose(self.settings.device, unet_parameters=0, half_vae=True).device
        free = self.room_bytes(where)
        usual = estimate.placement_for(card, self.settings, free)
        needed = estimate.need(card, usual, width, height, batch_size, guided)
        return estimate.sentence(needed, estimate.for_run(usual, needed, self.settings, free).offload, free)

    def room_bytes(self, where: str) -> int:
        """Memory of a device for a run and its weights: what is free, and what checkpoints hold."""
        return device.free_bytes(where) + sum(each.size_bytes for each in self.standing.loaded if not each.parked)

    # Kinds of orders

    def _load_only(self, order: Order) -> Iterator[Event | Predicts]:
        """Load a checkpoint that is not in memory yet."""
        card = order.assets.card
        yield from self._loading(card)
        with self._cache.lease(card, card.tasks[0]):
            yield from self._tried()

    def _lab(self, order: Order) -> Iterator[Event | Predicts]:
        """What a page of the lab wants to see, of a checkpoint or of models of the lab's own."""
        from ..lab import run_page as lab

        asked, card = order.request, order.assets.card
        folder = self.settings.data_dir / "lab"
        shelf = LabShelf(self.settings, self._datasets, LabFiles(order.assets))
        scene = lab.Scene(shelf, self._images.open, self._control, self.settings.device,
                          say=self._speak(order.language))
        if card is None:
            yield from lab.run(asked, scene, folder, self.settings.embed_metadata)
            return
        yield from self._loading(card)
        with self._cache.lease(card, card.tasks[0], partial(self._with_gradients, card, asked)) as lease:
            yield from self._tried()
            scene = replace(scene, pipe=lease.pipe, family=lease.family, placement=lease.placement,
                            native_px=card.native_size, model=card.name)
            yield from lab.run(asked, scene, folder, self.settings.embed_metadata)

    def _with_gradients(self, card: ModelCard, asked: LabJob, usual: Any) -> Any:
        through = asked.request.gradients
        return estimate.for_gradients(card, usual, through, self.room_bytes(usual.device)) if through else usual

    def _merge(self, order: Order) -> Iterator[Event | Predicts]:
        """Write a checkpoint of its own from a model and a LoRA."""
        request, card = order.request, order.assets.card
        yield from self._loading(card)
        with self._cache.lease(card, card.tasks[0]) as lease:
            yield from self._tried()
            lora = find.lookup(order.assets.loras, request.lora)
            yield from map(Notice, merge_into(request, lease, lora.path, self.settings.data_dir / "models"))

    def _draw(self, order: Order) -> Iterator[Event | Predicts]:
        """The pictures of a request."""
        from ..generation import generate

        request, card = order.request, order.assets.card
        yield from self._loading(card)
        with self._cache.lease(card, pipeline_of(order.task), partial(self._placed, card, request)) as lease:
            yield from self._tried()
            if order.assets.vae:
                lease.pipe.register_modules(vae=self._vaes.load(order.assets.vae, lease, self._cache.make_room))
            vectors, faults = _vectors(request, lease, order.assets.embeddings)
            yield from map(Notice, faults)
            # Weights that come layer by layer, or in fewer bits, are not there to be added to.
            whole = lease.placement.offload == "none" and not lease.placement.weights
            attached = partial(self._adapters.attached, merge=self.settings.merge_loras and whole)
            yield from generate.run(request, lease.pipe, lease.family, self._images.open, self._control, attached,
                                    self._upscalers.enlarge, vectors)

    def _placed(self, card: ModelCard, request: Request, usual: Any) -> Any:
        from ..generation.fitting import largest_pass

        size = largest_pass(request)
        if not all(size):  # a picture that is only enlarged says none
            return usual
        needed = estimate.need(card, usual, *size, request.batch_size, (request.guidance_scale or 0) > 1)
        return estimate.for_run(usual, needed, self.settings, self.room_bytes(usual.device))

    # Weights

    def _loading(self, card: ModelCard) -> Iterator[Event]:
        if not self._cache.holds(card):
            yield Loading(card.title)

    def _tried(self) -> Iterator[Predicts]:
        """What loading has shown."""
        found, self._found = self._found, []
        yield from found

    def open(self) -> None:
        """Import what computes, and choose the device. Raises RequestError for one that this machine has not."""
        if self._cache is not None:
            return
        from ..adapters.cache import Shelf
        from ..models import cache
        from ..models.vae_cache import Vaes

        settings = self.settings
        host = device.budget_bytes("cpu", settings.host_budget_gb)
        self._device = device.choose(settings.device, unet_parameters=0, half_vae=True).device
        own = host if self._device == "cpu" else device.budget_bytes(settings.device, settings.device_budget_gb)
        self._adapters, self._vaes = Shelf(lambda names: self._assets.loras), Vaes()
        self._device_bytes = own
        self._cache = cache.PipelineCache(self._load, cache.Budget(own, host), beside=self._vaes)

    def _go_on(self) -> None:
        """Raise Cancelled when the running order was stopped."""
        if self._control.stop.is_set():
            raise Cancelled("Stopped.")

    def _load(self, card: ModelCard) -> tuple[dict[str, Any], Any, int]:
        from ..machine import memory
        from ..models import loading

        placement = estimate.placement_for(card, self.settings, self._device_bytes)
        with memory.refusing(lambda: estimate.full(card, placement)):
            components = loading.load(card, placement, offline=self.settings.offline, go_on=self._go_on,
                                      tried=lambda kind: self._found.append(Predicts(card, kind)))
        self._device_line = device.describe(placement.device, placement.dtype)
        return components, placement, loading.bytes_of(components)


def _vectors(request: Request, lease: Any, entries: tuple[LibraryEntry, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The embeddings that the request names, and a sentence about each that cannot be used."""
    from ..library.embeddings import vectors

    if not entries:
        return {}, ()
    if not lease.family.reads_embeddings:
        told = ", ".join(entry.name for entry in entries)
        return {}, (f"Embeddings are not read for {lease.family.label}: {told} was read as words.",)
    texts = [getattr(one, name) for one in each(request) for name in prompt_fields(type(one))]
    encoders = {name: getattr(lease.pipe, name) for _, name in lease.family.text_encoders}
    widths = {name: encoder.get_input_embeddings().embedding_dim for name, encoder in encoders.items()}
    return vectors(entries, texts, widths)
