"""A run folder: where everything of a run lies, who may write into it, and its event log. Imports no torch."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

from ... import settings as settings_of
from ...errors import StudioError
from ...machine import processes
from ...machine.locks import try_lock
from ...settings import Settings
from ..events import Ended, Event, from_line, to_line
from ..request import TrainLora, from_table

HEARTBEAT_S = 2.0
SILENT_S = 30.0  # without a heartbeat: a process of another machine counts as dead


@dataclass(frozen=True)
class RunFolder:
    """Names of what lies in a run folder."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def settings_file(self) -> Path:
        """How the app was set up that started the run."""
        return self.path / "settings.json"

    @property
    def log_file(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def commands_file(self) -> Path:
        return self.path / "commands"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def output_file(self) -> Path:
        """What the process printed."""
        return self.path / "output.log"

    @property
    def manifest_file(self) -> Path:
        return self.path / "manifest.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def has_begun(self) -> bool:
        """Whether a process has worked in it."""
        return self.log_file.exists()

    @property
    def is_alive(self) -> bool:
        """Whether a process is working in it: of this machine by which it is, of another by its heartbeat."""
        status = self.status()
        if status is None:
            return False
        seen = processes.is_running(status)
        if seen is not None:
            return seen
        try:
            return time.time() - self.status_file.stat().st_mtime < SILENT_S
        except OSError:
            return False

    @property
    def has_spoken(self) -> bool:
        """Whether the process that works in it has written into the log: more than the end of a line cut off."""
        return self.log_bytes > (self.status() or {}).get("log_bytes", 0) + 1

    @property
    def log_bytes(self) -> int:
        return _size(self.log_file)

    def status_of(self, pid: int) -> dict[str, object]:
        """What is noted of a process that begins to work in it now."""
        return {**processes.describe(pid), "log_bytes": self.log_bytes}

    def status(self) -> dict[str, Any] | None:
        """What the working process wrote of itself; None when none did, or it ended in order."""
        return _table(self.status_file)

    def manifest(self) -> dict[str, Any] | None:
        return _table(self.manifest_file)

    def step_aside(self) -> Path | None:
        """Rename the folder, so that a new run can have the name. One that was only probed, or not even that, is
        removed."""
        events, _ = read_events(self)
        only_asked = {path.name for path in self.path.iterdir()} <= {self.config_file.name, self.settings_file.name}
        if only_asked or events and isinstance(events[-1], Ended) and events[-1].how == "probed":
            shutil.rmtree(self.path)
            return None
        number = 1
        while (old := self.path.with_name(f"{self.path.name}-{number}")).exists():
            number += 1
        return self.path.rename(old)

    def config(self) -> TrainLora:
        """The config the run began with. Raises RequestError for a damaged one."""
        try:
            table = json.loads(self.config_file.read_text("utf-8"))
        except (OSError, ValueError):
            raise StudioError(f"{self.path.name[:80]}: no run folder; its config.json cannot be read.") from None
        return from_table(table, self.path)

    def write_config(self, config: TrainLora) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.config_file, config.model_dump())

    def settings(self) -> Settings | None:
        """How the app is set up that started the run; None for a folder that does not say."""
        table = _table(self.settings_file)
        return None if table is None else settings_of.from_table(table)

    def write_settings(self, settings: Settings) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self.settings_file, settings_of.to_table(settings))


@contextmanager
def owned(folder: RunFolder) -> Iterator[None]:
    """Be the one process that writes into a run folder, and let it be seen that it lives.

    Raises StudioError when another process is at it. The lock is the system's: it ends with the process.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    lock = (folder.path / "lock").open("a")
    try:
        try_lock(lock)
    except OSError:
        lock.close()
        raise StudioError(f"{folder.path.name[:80]}: another process is working on this run.") from None
    ended = Flag()
    status = folder.status_of(os.getpid())
    write_json(folder.status_file, status)
    beat = Thread(target=_beat, args=(folder, status, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        folder.status_file.unlink(missing_ok=True)
        lock.close()


def _beat(folder: RunFolder, status: dict[str, object], ended: Flag) -> None:
    while not ended.wait(HEARTBEAT_S):
        with suppress(OSError):
            if folder.status() == status:
                os.utime(folder.status_file)
            else:  # of one that wanted the folder, too, and did not get it
                write_json(folder.status_file, status)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _table(file: Path) -> dict[str, object] | None:
    try:
        table = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return table if isinstance(table, dict) else None


class EventLog:
    """Appends events to a run's log. A full disk loses lines, never the run."""

    def __init__(self, folder: RunFolder):
        self._file = folder.log_file
        with suppress(OSError):  # a line cut off by a power loss must not swallow the next one
            if self._file.exists() and not self._file.read_bytes().endswith(b"\n"):
                self._file.open("ab").write(b"\n")

    def write(self, event: Event) -> None:
        with suppress(OSError), self._file.open("a", encoding="utf-8") as file:
            file.write(to_line(event, time.time()) + "\n")


def read_events(folder: RunFolder, offset: int = 0) -> tuple[list[Event], int]:
    """Read the log from a byte offset on; returns the events and the offset to go on from. An unfinished line waits."""
    try:
        with folder.log_file.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except OSError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    found = (from_line(line.decode("utf-8", "replace")) for line in whole.splitlines())
    return [event for event in found if event is not None], offset + len(whole)


class Commands:
    """What others ask of a running process: lines appended to a file, read once each.

    A line is a word, and behind it the name of the process that is meant. What was asked of an earlier process is no
    business of this one; what came while it started is. A line without a name counts when the file was written since.
    """

    def __init__(self, folder: RunFolder):
        import psutil

        self._file, self._offset, self._me = folder.commands_file, 0, processes.own_name()
        try:
            is_newer = self._file.stat().st_mtime >= psutil.Process().create_time()
        except (OSError, psutil.Error):
            is_newer = True
        self._old_bytes = 0 if is_newer else _size(self._file)

    def read(self) -> list[str]:
        """The words that came since the last call: stop, pause, sample, save."""
        if _size(self._file) <= self._offset:
            return []
        try:
            with self._file.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        words = []
        for line in data[: data.rfind(b"\n") + 1].splitlines(keepends=True):
            said = line.decode("utf-8", "replace").split()
            name = said.pop() if said and processes.MARK in said[-1] else ""
            if name == self._me or not name and self._offset >= self._old_bytes:
                words += said
            self._offset += len(line)
        return words


def write_json(path: Path, value: object) -> None:
    """Write a table through a file beside it, so that a reader sees the whole of it or the one before."""
    half = path.with_name(f".{path.name}.new")
    with half.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
