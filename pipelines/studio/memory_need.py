"""How much memory pictures will take, in a few words, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

from ..downloads.starters import Starter, starters
from .assets import Collection
from .runner import Engine


@dataclass(frozen=True)
class MemoryNeed:
    """engine: whose device is meant."""

    collection: Collection
    engine: Engine

    def need(self, model: str | None, width: int, height: int, batch_size: int = 1, guided: bool = True) -> str:
        """Say how much memory pictures of that size (px) will take of what is free."""
        return self.engine.need(self.collection.card(model), width, height, batch_size, guided)

    def starters(self) -> tuple[tuple[Starter, str], ...]:
        """Models to begin with, and whether this machine has the memory for each, in a few words."""
        return tuple((one, self.engine.need(one.card, one.card.native_size, one.card.native_size))
                     for one in starters())
