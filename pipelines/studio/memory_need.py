"""How much memory pictures will take, in a few words, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..downloads.starters import Starter, starters
from ..library.checkpoints import ModelCard
from ..machine import device
from ..models import estimate
from ..settings import Settings
from .assets import Collection


@dataclass(frozen=True)
class MemoryNeed:
    """room_bytes: a device's name -> memory of it for a run and its weights."""

    settings: Settings
    collection: Collection
    room_bytes: Callable[[str], int]

    def need(self, model: str | None, width: int, height: int, batch_size: int = 1, guided: bool = True) -> str:
        """Say how much memory pictures of that size (px) will take of what is free."""
        return self._sentence(self.collection.card(model), width, height, batch_size, guided)

    def starters(self) -> tuple[tuple[Starter, str], ...]:
        """Models to begin with, and whether this machine has the memory for each, in a few words."""
        return tuple((one, self._sentence(one.card, one.card.native_size, one.card.native_size)) for one in starters())

    def _sentence(self, card: ModelCard, width: int, height: int, batch_size: int = 1, guided: bool = True) -> str:
        where = device.choose(self.settings.device, unet_parameters=0, half_vae=True).device
        free = self.room_bytes(where)
        usual = estimate.placement_for(card, self.settings, free)
        needed = estimate.need(card, usual, width, height, batch_size, guided)
        return estimate.sentence(needed, estimate.for_run(usual, needed, self.settings, free).offload, free)
