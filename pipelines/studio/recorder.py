"""Turns what an engine reports into files and records: pictures are saved with their text, findings are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from time import monotonic

from PIL import Image

from ..engine.order import Order
from ..engine.report import Predicts
from ..events import Event, ImageReady
from ..history.store import Made, Results
from ..requests import Request
from .assets import Collection
from .infotexts import Infotexts

Keep = Callable[[Image.Image, Request], None]


def keep_nothing(image: Image.Image, request: Request) -> None:
    """Leave a picture to the disk."""


@dataclass(frozen=True)
class Recorder:
    """results: where pictures go. infotexts: what is written into them."""

    results: Results
    infotexts: Infotexts
    collection: Collection

    def record(self, events: Iterator[Event | Predicts], order: Order, owner: str,
               keep: Keep = keep_nothing) -> Iterator[Event]:
        """Save the pictures among an order's events, each in place of its ImageReady. keep: is given each."""
        begin = monotonic()
        with closing(events):
            for event in events:
                if isinstance(event, Predicts):
                    self.collection.note_trial(event.card, event.kind)
                elif isinstance(event, ImageReady):
                    now = monotonic()
                    text = self.infotexts.of(event.request, event.extra, order.assets.loras)
                    yield from self.results.save(Made(event.image, text, event.request.seed, order.task, now - begin,
                                                      owner))
                    keep(event.image, event.request)
                    begin = now
                else:
                    yield event

    def sheet(self, image: Image.Image, request: Request, task: str, owner: str) -> Iterator[Event]:
        """Save several pictures as one, with the text of what they have in common."""
        yield from self.results.save(Made(image, self.infotexts.of(request), request.seed, task, 0.0, owner,
                                          is_grid=True))
