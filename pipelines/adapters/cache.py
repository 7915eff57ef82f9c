"""The LoRAs of a studio: what there is, what was read, and attaching what a prompt's tags ask for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import ref

from ..errors import ModelError
from ..families import Family
from ..library.entry import LibraryEntry
from ..prompts import lora_tags
from . import find
from .alphas import config_beside
from .apply import applied, merged
from .read import Adapter, read

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

KEPT = 8  # adapters kept in memory after their use


class Shelf:
    """Keeps the LoRAs that were last read. entries: (names that are asked for) -> the LoRAs that there are."""

    def __init__(self, entries: Callable[[Sequence[str]], tuple[LibraryEntry, ...]]):
        self._entries = entries
        self.last: tuple[LibraryEntry, ...] = ()  # as of the newest look
        self._read: OrderedDict[tuple, Adapter] = OrderedDict()

    @contextmanager
    def attached(self, pipe: DiffusionPipeline, family: Family, uses: Sequence[lora_tags.Use], merge: bool = False
                 ) -> Iterator[tuple[str, ...]]:
        """Attach what tags ask for; gives a line about each. An unknown name is said and left out.

        merge: into the weights for as long as it lasts, instead of beside them.
        Raises ModelError for a file that is damaged or made for another family.
        """
        self.last = self._entries([use.name for use in uses])
        lines, wanted = [], []
        for use in uses:
            try:
                entry = find.lookup(self.last, use.name)
            except ModelError as error:
                if find.named(self.last, use.name):
                    raise  # it is here, and cannot be used
                lines.append(f"{error} It was left out.")
                continue
            adapter = self._adapter(entry, pipe, family)
            lines += [*adapter.lines, *use.notes]
            wanted.append((adapter, use.unet_weight, use.te_weight))
        with (merged if merge else applied)(pipe, wanted):
            yield tuple(lines)

    def _adapter(self, entry: LibraryEntry, pipe: DiffusionPipeline, family: Family) -> Adapter:
        beside = config_beside(entry.path)
        key = (entry.path, entry.modified_s, entry.size_bytes, beside and beside.stat().st_mtime_ns,
               ref(getattr(pipe, family.core)))
        if key not in self._read:
            self._read[key] = read(entry.path, pipe, family, entry.name)
            while len(self._read) > KEPT:
                self._read.popitem(last=False)
        self._read.move_to_end(key)
        return self._read[key]
