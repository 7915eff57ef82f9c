"""Downloads: started by the owner, each on a thread of its own; what was begun outlives the program."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from typing import Any

from pydantic import SecretStr

from ..errors import ModelError, RequestError, StudioError
from . import fetch, place
from .events import Checking, Downloaded, DownloadEvent, DownloadFailed, Downloading, Paused, Stopped
from .network import HOSTS, Network
from .sources import SITES, Plan, RemoteFile, Sites, plan

log = logging.getLogger(__name__)

STAGING = "models/.downloads"
MAX_RUNNING = 3
SMOOTHING = 0.2
WAITING = (Paused, DownloadFailed)


class Downloads:
    """Holds the downloads. public: others than this machine's owner can reach the page. offline: nothing is fetched.

    hosts, tokens: see Network. A token is sent to its own host and appears nowhere else. arrived: called when a
    download is in its folder.
    """

    def __init__(self, data_dir: Path, *, public: bool = False, offline: bool = False, hosts: tuple[str, ...] = HOSTS,
                 tokens: Mapping[str, SecretStr] | None = None, sites: Sites = SITES,
                 arrived: Callable[[], None] = lambda: None):
        self._data_dir, self._public, self._offline, self._sites = data_dir, public, offline, sites
        self._network = Network(hosts, tokens or {})
        self._arrived = arrived
        self._list = [self._held(folder, made) for folder in sorted((data_dir / STAGING).glob("*"))
                      if (made := _read_plan(folder))]

    def list(self) -> tuple[Download, ...]:
        """All of this run and the unfinished ones of runs before, oldest first."""
        return tuple(self._list)

    def get(self, id: str) -> Download | None:
        """The download a page speaks of."""
        return next((download for download in self._list if download.id == id), None)

    def start(self, source: str, *, is_owner: bool = False) -> Download:
        """Find out what `source` is, and fetch it. See sources.plan for what can be typed.

        Raises RequestError when this is not possible here, ModelError when the site has no such thing.
        """
        self.refuse(is_owner=is_owner)
        made = plan(source[:4_000], self._network, self._sites)
        folder = self._data_dir / STAGING / secrets.token_hex(8)
        folder.mkdir(parents=True)
        try:
            fetch.need_room(folder, made.size_bytes)
            (folder / "plan.json").write_text(json.dumps(dataclasses.asdict(made)), encoding="utf-8")
        except (ModelError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise error if isinstance(error, ModelError) else ModelError(
                f"Download: the disk cannot be written ({error.strerror}).") from None
        download = self._held(folder, made)
        self._list.append(download)
        download.resume()
        return download

    def _held(self, folder: Path, made: Plan) -> Download:
        return Download(folder.name, made, folder, self._data_dir, self._network,
                        Paused(made.title, _held(folder), made.size_bytes), self._arrived)

    def refuse(self, *, is_owner: bool = False) -> None:
        """Raise RequestError with the reason when nothing may be started or resumed."""
        if self._offline:
            raise RequestError("Download: this app was started with --offline, so nothing is fetched.", "source")
        if self._public and not is_owner:
            raise RequestError("Download: only the owner can fetch models, because others can reach this page.",
                               "source")
        if sum(download.is_running for download in self._list) >= MAX_RUNNING:
            raise RequestError(f"Download: {MAX_RUNNING} are running already. Wait for one, or pause it.", "source")

    def close(self) -> None:
        """Pause what runs, within a chunk."""
        for download in self._list:
            download.pause()
        for download in self._list:
            download.wait()


class Download:
    """One download. Made by Downloads; `state` is its newest event, which says everything."""

    def __init__(self, id: str, made: Plan, folder: Path, data_dir: Path, network: Network, state: DownloadEvent,
                 arrived: Callable[[], None]):
        self.id, self.title, self._arrived = id, made.title, arrived
        self._plan, self._folder, self._data_dir, self._network = made, folder, data_dir, network
        self._state = state
        self._wish = ""  # "pause" or "stop"
        self._thread: Thread | None = None
        self._news = Condition()

    @property
    def state(self) -> DownloadEvent:
        return self._state

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def resume(self) -> None:
        """Go on after a pause or a failure that allows it."""
        with self._news:
            if self._thread is None and isinstance(self._state, WAITING) and self._folder.is_dir():
                self._wish = ""
                self._state = Downloading(self.title, _held(self._folder), self._plan.size_bytes)
                self._thread = Thread(target=self._work, name="download", daemon=True)
                self._thread.start()

    def pause(self) -> None:
        """Wait, keeping what is here."""
        with self._news:
            if self._thread is not None and not self._wish:
                self._wish = "pause"

    def stop(self) -> None:
        """Give it up and remove what there is of it."""
        with self._news:
            self._wish = "stop"
            if self._thread is None and isinstance(self._state, WAITING):
                self._end(Stopped(self.title))

    def wait(self, timeout_s: float | None = None) -> DownloadEvent:
        """Block until it waits or has ended; the state by then."""
        with self._news:
            self._news.wait_for(lambda: self._thread is None, timeout_s)
            return self._state

    def follow(self, tick_s: float = 0.5) -> Iterator[DownloadEvent]:
        """Yield the newest state whenever it has changed, until it waits or has ended."""
        shown: DownloadEvent | None = None
        while True:
            with self._news:
                if self._state is shown and self._thread is not None:
                    self._news.wait(tick_s)
                state, running = self._state, self._thread is not None
            if state is not shown:
                shown = state
                yield state
            if not running:
                return

    # The download's thread

    def _work(self) -> None:
        try:
            end = self._fetched()
        except StudioError as error:
            end = DownloadFailed(self.title, error, can_resume=_held(self._folder) > 0)
        except OSError as error:
            reason = "the disk is full" if error.errno == 28 else error.strerror or "the disk does not answer"
            end = DownloadFailed(self.title, ModelError(f"Download: {reason}."), can_resume=True)
        except Exception:  # the thread's last line: whoever follows must be told an end, whatever it was
            log.exception("a download ended unexpectedly")
            end = DownloadFailed(self.title, ModelError("Download: it ended unexpectedly; the log says more."))
        with self._news:
            self._end(Stopped(self.title) if self._wish == "stop" and not isinstance(end, Downloaded) else end)
        if isinstance(end, Downloaded):
            self._arrived()

    def _end(self, state: DownloadEvent) -> None:
        if isinstance(state, Downloaded | Stopped) or (isinstance(state, DownloadFailed) and not state.can_resume):
            shutil.rmtree(self._folder, ignore_errors=True)
        self._state, self._thread = state, None
        self._news.notify_all()

    def _fetched(self) -> DownloadEvent:
        before, speed = 0, _Speed(_held(self._folder))
        for file in self._plan.files:
            whole = self._content / place.plain_path(file.path)
            whole.parent.mkdir(parents=True, exist_ok=True)
            if not whole.exists():
                part = whole.with_name(f"{whole.name}.part")
                running = fetch.fetch(self._network, file, part)
                for done, total in running:
                    whole_bytes = self._plan.size_bytes or (total if len(self._plan.files) == 1 else 0)
                    if self._wish:
                        running.close()
                        return Paused(self.title, before + done, whole_bytes)
                    self._show(before + done, whole_bytes, speed.at(before + done))
                part.rename(whole)
                part.with_name(f"{part.name}.etag").unlink(missing_ok=True)
            before += whole.stat().st_size
        self._state = Checking(self.title)
        for file in self._plan.files:
            fetch.check(file, self._content / place.plain_path(file.path))
        kind, name = place.put(self._plan, self._content, self._data_dir)
        return Downloaded(self.title, kind, name)

    def _show(self, done: int, total: int, speed: float) -> None:
        left = (total - done) / speed if total and speed else None
        with self._news:
            self._state = Downloading(self.title, done, total, speed, left)
            self._news.notify_all()

    @property
    def _content(self) -> Path:
        return self._folder / place.plain_name(self._plan.name)


class _Speed:
    """Bytes per second, smoothed."""

    def __init__(self, done: int):
        self._done, self._time, self._speed = done, monotonic(), 0.0

    def at(self, done: int) -> float:
        """The speed when `done` bytes are there."""
        now = monotonic()
        if now > self._time and done > self._done:
            newest = (done - self._done) / (now - self._time)
            self._speed = newest if not self._speed else self._speed + SMOOTHING * (newest - self._speed)
            self._done, self._time = done, now
        return self._speed


def _held(folder: Path) -> int:
    """Bytes that are here already."""
    return sum(path.stat().st_size for path in folder.glob("*/**/*") if path.is_file() and path.suffix != ".etag")


def _read_plan(folder: Path) -> Plan | None:
    """The plan of a download that an earlier run began; None for what is damaged or no download of ours."""
    if not re.fullmatch(r"[0-9a-f]{16}", folder.name):
        return None
    try:
        said: dict[str, Any] = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        return Plan(**{**said, "files": tuple(RemoteFile(**file) for file in said["files"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
