"""Checkpoints in memory: loaded once, leased to a job, forgotten when room is needed."""

from __future__ import annotations

import inspect
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, RLock
from typing import TYPE_CHECKING, Protocol

from ..families import FAMILIES, Family
from ..library.checkpoints import ModelCard
from ..machine import memory
from ..machine.device import Placement
from . import sharing
from .components import Components
from .offload import in_place, offloaded

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

log = logging.getLogger(__name__)


@dataclass
class Loaded:
    """A checkpoint's components. parked: they wait in host memory. lock: held by the one lease there may be."""

    card: ModelCard
    placement: Placement
    components: Components
    size_bytes: int
    parked: bool = False
    lock: Lock = field(default_factory=Lock)

    @property
    def is_on_host(self) -> bool:
        """Whether its weights are in host memory and the device is another one."""
        return self.parked or self.placement.home != self.placement.device


@dataclass(frozen=True)
class Lease:
    """A pipeline for one task, on components that others use as well: change nothing that you do not change back."""

    pipe: DiffusionPipeline
    family: Family
    placement: Placement


class Beside(Protocol):
    """What is kept on the device beside checkpoints, and can be had again."""

    @property
    def size_bytes(self) -> int: ...

    def clear(self) -> None: ...


@dataclass(frozen=True)
class Budget:
    """What all checkpoints together may take. On a CPU the device is the host, and device_bytes is what counts."""

    device_bytes: int
    host_bytes: int


class PipelineCache:
    """Loads checkpoints and lends them.

    The least recently used leaves the device first; it is parked in host memory while there is room, from where it
    comes back with a copy, and then dropped. The one in use stays, even when it alone is over the budget. Parts that
    checkpoints have in common are held once.
    load: (card) -> (components, placement, bytes). move: puts components on a device. beside: what else lies on the
    device between two leases; it goes first.
    """

    def __init__(self, load: Callable[[ModelCard], tuple[Components, Placement, int]], budget: Budget,
                 move: Callable[[Components, str], None] | None = None, beside: Beside | None = None):
        self._load, self._budget, self._move, self._beside = load, budget, move or place, beside
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._loading: dict[str, Lock] = {}
        self._lock = RLock()

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the checkpoints in memory, least recently used first."""
        return tuple(name for name, _, _ in self.placed)

    @property
    def placed(self) -> tuple[tuple[str, bool, int], ...]:
        """(name, whether it waits in host memory, bytes) of each checkpoint, least recently used first."""
        with self._lock:
            return tuple((entry.card.name, entry.is_on_host, entry.size_bytes) for entry in self._loaded.values())

    def holds(self, card: ModelCard) -> bool:
        """Whether a lease of this very file would need no loading."""
        return card.fingerprint in self._loaded

    def make_room(self, wanted: int) -> None:
        """Leave room for something of `wanted` bytes that will lie beside the checkpoints."""
        with self._lock:
            self._make_room(wanted)

    def vacate(self) -> None:
        """Leave the device to another process: park or drop every idle checkpoint that lies on a card, and give what
        was cached of its memory back to the driver."""
        with self._lock:
            for key, entry in list(self._loaded.items()):
                if entry.placement.home != "cpu" and not entry.parked and not entry.lock.locked():
                    self._leave(key, entry)
        memory.free()

    @contextmanager
    def lease(self, card: ModelCard, task: str, placed: Callable[[Placement], Placement] = lambda usual: usual
              ) -> Iterator[Lease]:
        """Lend a pipeline for `task`: "txt2img", "img2img" or "inpaint".

        placed: the placement for this lease alone, which may let parts wait in main memory, or bring those in place
        that wait there. The pipeline is new, its
        modules are the cached ones, and its scheduler is a fresh copy, so that nothing a job sets on either stays.
        Raises ModelError when the checkpoint cannot be loaded.
        """
        with self._held(card) as entry:
            pipe = build(entry.card.family, task, entry.components, card.scheduler)
            placement = placed(entry.placement)
            with offloaded(pipe, placement, entry.placement.home), in_place(pipe, placement, entry.placement):
                yield Lease(pipe, FAMILIES[entry.card.family], placement)

    @contextmanager
    def _held(self, card: ModelCard) -> Iterator[Loaded]:
        key = card.fingerprint
        while True:
            entry = self._entry(card)
            with entry.lock:
                if self._loaded.get(key) is not entry:
                    continue  # it was dropped between finding and locking it
                with self._lock:
                    self._loaded.move_to_end(key)
                    if entry.parked:
                        entry.parked = False
                        self._make_room(0)
                        try:
                            self._move(entry.components, entry.placement.home)
                        except BaseException:  # no room after all: what has moved already goes on next time
                            entry.parked = True
                            raise
                yield entry
                return

    def _entry(self, card: ModelCard) -> Loaded:
        key = card.fingerprint
        with self._lock:
            if key in self._loaded:
                return self._loaded[key]
            loading = self._loading.setdefault(key, Lock())
        with loading:  # two jobs that want the same checkpoint load it once
            with self._lock:
                if key in self._loaded:
                    return self._loaded[key]
                self._make_room(card.size_bytes)
            components, placement, size = self._load(card)
            with self._lock:
                self._loading.pop(key, None)
                saved = sharing.adopt(components, [entry.components for entry in self._loaded.values()
                                                 if not entry.parked and not entry.lock.locked()])
                self._make_room(size - saved)
                return self._loaded.setdefault(key, Loaded(card, placement, components, size))

    def _make_room(self, wanted: int) -> None:
        """Park or drop what is idle, oldest first, until `wanted` bytes fit on the device."""
        if self._beside and self._used(parked=False) + self._beside.size_bytes + wanted > self._budget.device_bytes:
            self._beside.clear()
        for key, entry in list(self._loaded.items()):
            if self._used(parked=False) + wanted <= self._budget.device_bytes:
                return
            if not entry.parked and not entry.lock.locked():
                self._leave(key, entry)

    def _leave(self, key: str, entry: Loaded) -> None:
        if entry.placement.home != "cpu" and self._host_has_room(entry.size_bytes):
            log.info("parking %s in host memory", entry.card.name)
            entry.parked = True
            needed = {id(part) for other in self._loaded.values() if not other.parked
                      for part in other.components.values()}
            self._move({name: part for name, part in entry.components.items() if id(part) not in needed}, "cpu")
        else:
            log.info("unloading %s to make room", entry.card.name)
            del self._loaded[key]

    def _host_has_room(self, wanted: int) -> bool:
        for key, entry in list(self._loaded.items()):
            if self._used(parked=True) + wanted <= self._budget.host_bytes:
                break
            if entry.parked and not entry.lock.locked():
                log.info("unloading %s from host memory", entry.card.name)
                del self._loaded[key]
        return self._used(parked=True) + wanted <= self._budget.host_bytes

    def _used(self, *, parked: bool) -> int:
        entries = [entry for entry in self._loaded.values() if entry.parked == parked]
        return sum(entry.size_bytes for entry in entries) - sharing.bytes_saved(entry.components for entry in entries)


def place(components: Components, device: str) -> None:
    """Move the modules among components."""
    for part in components.values():
        if hasattr(part, "parameters"):
            part.to(device)


def build(family: str, task: str, components: Components,
          scheduler: Mapping[str, object] | None = None) -> DiffusionPipeline:
    """Make a pipeline of the task's class around components, without copying or casting any of them.

    scheduler: what goes over its config. Never from_pipe: it casts the shared modules and shares the scheduler object.
    """
    import diffusers

    cls = getattr(diffusers, FAMILIES[family].pipelines[task])
    known = inspect.signature(cls).parameters
    fresh = {name: type(part).from_config(part.config, **(scheduler or {})) for name, part in components.items()
             if hasattr(part, "set_timesteps")}
    parts = {**components, **fresh, "requires_safety_checker": False}
    for name in ("safety_checker", "feature_extractor", "image_encoder"):
        parts.setdefault(name, None)
    return cls(**{name: part for name, part in parts.items() if name in known})
