"""The library: a list that is kept while the app runs, refreshed and hashed on a thread of its own."""

from __future__ import annotations

import logging
import math
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Condition, Thread
from time import monotonic

from ..errors import ModelError
from ..families import FAMILIES
from .entry import LibraryEntry, entry_of, lookup, search
from .folders import Place
from .hashes import Hashes, file_stamp
from .scan import Found, scan
from .store import FILE_NAME, Store

log = logging.getLogger(__name__)

FRESH_S = 2  # at most, that whoever asks waits for a new look
SLOW_S, LOOKING_SHARE = 0.5, 0.05


@dataclass(frozen=True)
class Progress:
    """done of total: files looked at in the scan that runs, or in the last one. scanning: one runs. hashing: files
    whose hash is still to come."""

    done: int = 0
    total: int = 0
    scanning: bool = False
    hashing: int = 0


class Library:
    """Knows every model file in its places. All methods answer at once and may be called from any thread.

    places: asked before each scan, so that new folders are seen. taken: names of checkpoints that are given away.
    changed: called after each scan, on the library's thread.
    """

    def __init__(self, data_dir: Path, places: Callable[[], tuple[Place, ...]], taken: Iterable[str] = (),
                 changed: Callable[[], None] = lambda: None):
        self._store, self.hashes = Store(data_dir / FILE_NAME), Hashes(data_dir)
        self._places, self._taken, self._changed = places, tuple(taken), changed
        self._entries: tuple[LibraryEntry, ...] = ()
        self._progress = Progress()
        self._wanted: deque[LibraryEntry] = deque()
        self._asked = self._closed = False
        self._ended_s, self._took_s = -math.inf, 0.0  # of the newest scan
        self._news = Condition()
        self._thread: Thread | None = None

    # Reading

    def entries(self, words: str = "", kind: str = "", family: str = "") -> tuple[LibraryEntry, ...]:
        """What is known, chosen by words, kind and family. Empty before the first `refresh`."""
        return search(self._entries, words, kind, family)

    def get(self, kind: str, name: str) -> LibraryEntry:
        """The entry of that name. Raises ModelError when there is none, or when it cannot be used."""
        return lookup(self.entries(kind=kind), kind, name)

    def by_id(self, id: str) -> LibraryEntry | None:
        """The entry a page speaks of."""
        return next((entry for entry in self._entries if entry.id == id), None)

    @property
    def progress(self) -> Progress:
        return replace(self._progress, hashing=len(self._wanted))

    # Asking for work

    def refresh(self) -> None:
        """Look through the places again, in the background."""
        with self._news:
            self._asked = True
            self._progress = replace(self._progress, scanning=True)
            self._wake()

    def freshen(self, wait_s: float = FRESH_S) -> None:
        """Look again and wait a moment for it, so that a file that was just saved is known; the first time, to the end.

        Looking may take a twentieth of the time: with very many files, what was found a moment ago has to do.
        """
        if self._took_s > SLOW_S and monotonic() - self._ended_s < self._took_s / LOOKING_SHARE:
            return
        self.refresh()
        self.wait_for_scan(None if self._ended_s == -math.inf else wait_s)

    def wait_for_scan(self, timeout_s: float | None = None) -> None:
        """Block until no scan runs."""
        with self._news:
            self._news.wait_for(lambda: self._closed or not self._progress.scanning, timeout_s)

    def want_hashes(self, entries: Iterable[LibraryEntry]) -> None:
        """Compute the hashes of these in the background, where they are not known: before those of earlier wishes."""
        with self._news:
            new = {entry.id: entry for entry in entries if not entry.auto_v2 and not entry.fault}
            self._wanted = deque([*new.values(), *(entry for entry in self._wanted if entry.id not in new)])
            self._wake()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until nothing is left to do; False when that took longer than timeout_s."""
        with self._news:
            return self._news.wait_for(lambda: self._closed or not (self._progress.scanning or self._wanted), timeout_s)

    def close(self) -> None:
        """End the background thread, within one file."""
        with self._news:
            self._closed = True
            self._news.notify_all()
            thread = self._thread
        if thread:
            thread.join()

    # The background thread

    def _wake(self) -> None:
        self._news.notify_all()
        if self._thread is None and not self._closed:
            self._thread = Thread(target=self._work, name="library", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._closed or self._asked or self._wanted)
                if self._closed:
                    return
                entry = self._wanted[0] if self._wanted else None
            if not self._scan_if_asked() and entry is not None:
                try:
                    self._hash(entry)
                except Exception:  # one file, of any program, must not end the only thread that looks
                    log.exception("a file's hash could not be computed")
                with self._news:
                    self._wanted = deque(one for one in self._wanted if one.id != entry.id)
                    self._news.notify_all()

    def _scan_if_asked(self) -> bool:
        with self._news:
            if not self._asked:
                return False
            self._asked = False
        begin = monotonic()
        try:
            self._scan()
            self._took_s = monotonic() - begin
            self._changed()
        except Exception:  # one file, of any program, must not end the only thread that looks
            log.exception("the library could not be read")
        self._ended_s = monotonic()
        with self._news:
            self._progress = replace(self._progress, scanning=self._asked)
            self._news.notify_all()
        return True

    def _between(self) -> bool:
        """Look through the places in the middle of a large file; whether to leave it."""
        self._scan_if_asked()
        return self._closed

    def _scan(self) -> None:
        hashes = self._hashes()

        def report(done: int, total: int, found: list[Found]) -> bool:
            self._progress = Progress(done, total, scanning=True)
            if len(found) >= 2 * len(self._entries):  # a first scan shows what it has
                self._entries = tuple(entry_of(one, hashes) for one in found)
            return not self._closed

        found = scan(self._places(), self._store, taken=self._taken, report=report)
        if not self._closed:
            self._entries = tuple(entry_of(one, hashes) for one in found)
            self._progress = Progress(len(found), len(found), scanning=True)

    def _hash(self, entry: LibraryEntry) -> None:
        try:
            core = FAMILIES[entry.family].core if entry.family in FAMILIES else "unet"
            found = self.hashes.of(entry.path, core, stopped=self._between)
            now = entry.path.stat()
            if entry.path.is_dir():  # a scan looks for the folder
                self._store.keep_hashes(str(entry.path), file_stamp(entry.size_bytes, entry.modified_s), found.whole,
                                        found.body)
            elif (now.st_size, now.st_mtime) != (entry.size_bytes, entry.modified_s):
                return  # another file by this time
        except (OSError, ModelError, sqlite3.Error, InterruptedError):  # it went away; the next scan will say so
            return
        auto_v3 = found.auto_v3 or entry.auto_v3
        self._entries = tuple(replace(one, auto_v2=found.auto_v2, auto_v3=auto_v3) if one.id == entry.id else one
                              for one in self._entries)

    def _hashes(self) -> dict[str, tuple[str, str, str]]:
        try:
            return self._store.hashes()
        except (sqlite3.Error, OSError):
            return {}
