"""Room for encoding pictures and captions: what can be moved out of its way, and what can be done in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ...errors import OutOfMemory
from ...machine import memory
from .base_model import Base

T = TypeVar("T")


class Room:
    """Makes room on the base's device, step by step.

    in_tiles: whether pictures are encoded in tiles from here on. told: a sentence for each step that was taken.
    """

    def __init__(self, base: Base):
        self._base, self.in_tiles, self.told = base, False, []
        self._left = [self._move_unet, self._tile] if base.device.type != "cpu" else [self._tile]

    def encoded(self, encode: Callable[[], T], what: str) -> T:
        """Call `encode`, again after each step while it runs out of memory. what: for the error, OutOfMemory."""
        while True:
            with memory.attempt():
                return encode()
            if not self._left:
                raise OutOfMemory(f"{what}: not enough memory to encode it. Lower the resolution, or close other "
                                  "programs.")
            self._left.pop(0)()

    def _move_unet(self) -> None:
        self._base.unet.to("cpu")  # Base.park, which makes the place free, brings it back
        self.told.append("Not enough memory: the U-Net waits in host memory while pictures are encoded.")

    def _tile(self) -> None:
        self.in_tiles = True
        self.told.append("Not enough memory: large pictures are encoded in tiles.")
