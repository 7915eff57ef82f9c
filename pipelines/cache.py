"""Checkpoints in memory: loaded once, leased to a job, forgotten when room is needed."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, RLock
from typing import Any

from .device import Placement
from .families import FAMILIES, Family
from .models import ModelCard

log = logging.getLogger(__name__)


@dataclass
class Loaded:
    """A checkpoint's components. lock: held by the one lease there may be at a time."""

    card: ModelCard
    placement: Placement
    components: dict[str, Any]
    size_bytes: int
    lock: Lock = field(default_factory=Lock)


@dataclass(frozen=True)
class Lease:
    """A pipeline for one task, on components that others use as well: change nothing that you do not change back."""

    pipe: Any
    family: Family
    placement: Placement


class PipelineCache:
    """Loads checkpoints and lends them, least recently used out first.

    load: (card) -> (components, placement, bytes). budget_bytes: what all checkpoints together may take; the one in
    use stays even when it alone is larger.
    """

    def __init__(self, load: Callable[[ModelCard], tuple[dict[str, Any], Placement, int]], budget_bytes: int):
        self._load, self._budget = load, budget_bytes
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._loading: dict[str, Lock] = {}
        self._lock = RLock()

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the checkpoints in memory, least recently used first."""
        with self._lock:
            return tuple(entry.card.name for entry in self._loaded.values())

    def holds(self, card: ModelCard) -> bool:
        """Whether a lease of this very file would need no loading."""
        return card.fingerprint in self._loaded

    @contextmanager
    def lease(self, card: ModelCard, task: str) -> Iterator[Lease]:
        """Lend a pipeline for `task`: "txt2img", "img2img" or "inpaint".

        The pipeline is new, its modules are the cached ones, and its scheduler is a fresh copy, so that nothing a
        job sets on either stays. Raises ModelError when the checkpoint cannot be loaded.
        """
        entry = self._get(card)
        with entry.lock:
            yield Lease(build(entry.card.family, task, entry.components), FAMILIES[entry.card.family],
                        entry.placement)

    def forget(self, card: ModelCard) -> None:
        """Drop a checkpoint, if nobody uses it."""
        with self._lock:
            self._loaded.pop(card.fingerprint, None)

    def _get(self, card: ModelCard) -> Loaded:
        key = card.fingerprint
        with self._lock:
            if key in self._loaded:
                self._loaded.move_to_end(key)
                return self._loaded[key]
            loading = self._loading.setdefault(key, Lock())
        with loading:  # two jobs that want the same checkpoint load it once
            with self._lock:
                if key in self._loaded:
                    return self._loaded[key]
                self._make_room(card.size_bytes)
            components, placement, size = self._load(card)
            with self._lock:
                self._loaded[key] = Loaded(card, placement, components, size)
                self._loading.pop(key, None)
                self._make_room(0)
                return self._loaded[key]

    def _make_room(self, wanted: int) -> None:
        idle = [key for key, entry in self._loaded.items() if not entry.lock.locked()]
        newest = next(reversed(self._loaded), None)
        for key in idle:
            used = sum(entry.size_bytes for entry in self._loaded.values())
            if used + wanted <= self._budget or (key == newest and not wanted):
                return
            log.info("unloading %s to make room", self._loaded[key].card.name)
            del self._loaded[key]


def build(family: str, task: str, components: dict[str, Any]) -> Any:
    """Make a pipeline of the task's class around components, without copying or casting any of them.

    Never from_pipe: it casts the shared modules and shares the scheduler object.
    """
    import inspect

    import diffusers

    cls = getattr(diffusers, FAMILIES[family].pipelines[task])
    known = inspect.signature(cls).parameters
    scheduler = components["scheduler"]
    parts = {**components, "scheduler": type(scheduler).from_config(scheduler.config),
             "requires_safety_checker": False}
    for name in ("safety_checker", "feature_extractor", "image_encoder"):
        parts.setdefault(name, None)
    return cls(**{name: part for name, part in parts.items() if name in known})
