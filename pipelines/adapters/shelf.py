"""The LoRAs of a studio: what there is, what was read, and attaching what a prompt's tags ask for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..errors import ModelError
from ..families import Family
from ..settings import Settings
from . import find, tags
from .apply import applied
from .read import Adapter, read

KEPT = 8  # adapters kept in memory after their use


class Shelf:
    """Finds LoRA files anew at each look, so that one is usable the moment it is saved, and keeps the last read."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self.last: tuple[find.AdapterCard, ...] = ()  # as of the newest look
        self._read: OrderedDict[tuple, Adapter] = OrderedDict()

    def cards(self) -> tuple[find.AdapterCard, ...]:
        """What there is, by name. Files that did not change are not read again."""
        self.last = find.find(self._settings, self.last)
        return self.last

    @contextmanager
    def attached(self, pipe: Any, family: Family, uses: Sequence[tags.Use]) -> Iterator[tuple[str, ...]]:
        """Attach what tags ask for; gives a line about each. An unknown name is said and left out.

        Raises ModelError for a file that is damaged or made for another family.
        """
        cards = self.cards()
        lines, wanted = [], []
        for use in uses:
            try:
                card = find.lookup(cards, use.name)
            except ModelError as error:
                if any(use.name in (card.name, card.alias) for card in cards):
                    raise  # it is here, and cannot be used
                lines.append(f"{error} It was left out.")
                continue
            adapter = self._adapter(card, pipe, family)
            lines.append(adapter.line)
            wanted.append((adapter, use.unet_weight, use.te_weight))
        with applied(pipe, wanted):
            yield tuple(lines)

    def _adapter(self, card: find.AdapterCard, pipe: Any, family: Family) -> Adapter:
        key = card.path, card.changed_ns, id(pipe.unet)
        if key not in self._read:
            self._read[key] = read(card.path, pipe, family, card.name)
            while len(self._read) > KEPT:
                self._read.popitem(last=False)
        self._read.move_to_end(key)
        return self._read[key]
