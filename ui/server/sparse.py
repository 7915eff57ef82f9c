"""A log that strangers cannot fill: a few lines a minute, then a count of what was left out."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

LINES = 20
WINDOW_S = 60.0
MAX_LINE = 300  # characters
FRAMES = 3  # the last places of a traceback; enough to find a fault, and no page of it


class Sparse:
    """Writes at most LINES lines a minute. write: such as log.warning. what: the name of what is left out."""

    def __init__(self, write: Callable[..., None], what: str, clock: Callable[[], float] = time.monotonic):
        self._write, self._what, self._clock = write, what, clock
        self._lock = threading.Lock()
        self._begin, self._written, self._left_out = clock(), 0, 0

    def __call__(self, line: str) -> None:
        """Write a line, or count it."""
        with self._lock:
            left_out = self._turned()
            self._written += 1
            is_written = self._written <= LINES
            self._left_out += not is_written
        if left_out:
            self._write("%d more %s in the last minute are not listed.", left_out, self._what)
        if is_written:
            self._write("%s", line[:MAX_LINE])

    def count(self) -> None:
        """Count one without a line."""
        with self._lock:
            self._left_out += 1

    def _turned(self) -> int:
        """Begin a new minute when the last one is over, and return what was left out in it."""
        now = self._clock()
        if now - self._begin < WINDOW_S:
            return 0
        self._begin, self._written = now, 0
        left_out, self._left_out = self._left_out, 0
        return left_out


class ShortTraceback:
    """What Gradio's modules get for `traceback`: its print_exc writes a page for each request that fails."""

    def __init__(self) -> None:
        self._lines = Sparse(log.error, "errors")

    def print_exc(self, *_: Any, **__: Any) -> None:
        """Write the error that is being handled as one line."""
        import sys

        self._lines(in_short(sys.exc_info()[1]))

    def __getattr__(self, name: str) -> object:
        return getattr(traceback, name)


def in_short(error: BaseException | None) -> str:
    """Return an error and where it came from, in one line."""
    if error is None:
        return "no error"
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    places = " < ".join(f"{frame.name} ({frame.filename.rpartition('/')[2]}:{frame.lineno})"
                        for frame in reversed(frames))
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:160]} [{places}]"


def shorten_tracebacks() -> None:
    """Let Gradio's queue and routes write errors in one line each, and few of them."""
    from gradio import queueing, route_utils, routes, utils

    short = ShortTraceback()
    for module in (queueing, route_utils, routes, utils):
        module.traceback = short  # type: ignore[attr-defined]  # what the module imports under this name
