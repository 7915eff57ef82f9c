"""How a running job is told to end early. The worker looks at it once a step."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event


@dataclass(frozen=True)
class Control:
    """stop: end within one step. skip: drop the batch being made. leave: end after the batch being made."""

    stop: Event = field(default_factory=Event)
    skip: Event = field(default_factory=Event)
    leave: Event = field(default_factory=Event)

    def skipped(self) -> bool:
        """Whether the batch being made is to be dropped; asking takes the wish back, so that it counts once."""
        if not self.skip.is_set():
            return False
        self.skip.clear()
        return True
