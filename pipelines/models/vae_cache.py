"""Autoencoders that take the place of a checkpoint's own for a job; the last few are kept while there is room."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..library import LibraryEntry
from .cache import Lease
from .loading import bytes_of, load_vae

if TYPE_CHECKING:
    import torch

KEPT = 2  # of at most some 340 MB each


class Vaes:
    """Loads autoencoders. Used by one thread alone."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[tuple, torch.nn.Module] = OrderedDict()

    @property
    def size_bytes(self) -> int:
        """Memory that they take together."""
        return bytes_of({str(number): network for number, network in enumerate(self._loaded.values())})

    def load(self, entry: LibraryEntry, lease: Lease, make_room: Callable[[int], None]) -> torch.nn.Module:
        """The autoencoder on the lease's device, to be put into its pipeline. Raises ModelError naming file and reason.

        The leased pipeline is new for each job, so what is put into it is not seen by the next one. make_room: called
        with the bytes that a new one will take.
        """
        own = lease.pipe.vae.config
        key = (entry.path, entry.size_bytes, entry.modified_s, lease.placement.device, lease.placement.vae_dtype,
               own["scaling_factor"])
        if key not in self._loaded:
            make_room(entry.size_bytes)
            self._loaded[key] = load_vae(entry, lease.placement, own)
            while len(self._loaded) > KEPT:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(key)
        # Where parts are offloaded, it comes too late for their hooks, and is sent back to the host with them.
        return self._loaded[key].to(lease.placement.device)

    def clear(self) -> None:
        """Leave the memory to somebody else."""
        self._loaded.clear()
