"""Locks between processes, and the one app of a data folder. Imports no torch.

A lock is the system's, on an open file: it ends with the process that holds it, however that ends. Files are opened
anew for each lock, so threads of one process exclude each other, too. Training processes and command lines share the
data folder with the app: they write into folders of their own, and lists that several may write have a lock.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from ..errors import StudioError

log = logging.getLogger(__name__)

HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # by somebody else; any other number: this disk knows no locks
APP_LOCK = ".app.lock"
APP_FILE = ".app.json"  # who holds it: Windows lets nobody read a locked file


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait until nobody else holds the lock on this file, which is made, and hold it.

    On a disk without locks nothing is waited for. Raises OSError when the file cannot be made.
    """
    with path.open("a") as file:
        _wait(file)
        yield


@contextmanager
def claimed(path: Path, refusal: StudioError) -> Iterator[None]:
    """Hold the lock on this file, which is made, or raise `refusal` at once when somebody else holds it."""
    with path.open("a") as file:
        try:
            try_lock(file)
        except OSError as error:
            if error.errno in HELD:
                raise refusal from None
        yield


@contextmanager
def app_of(data_dir: Path) -> Iterator[Callable[[str], None]]:
    """Be the one app that works in a data folder; yields what tells others its address.

    Raises StudioError, which names the holder, when another app is at it.
    """
    try:
        file = (data_dir / APP_LOCK).open("a")
    except OSError as error:
        raise StudioError(f"data_dir: the folder cannot be written ({error.strerror}).") from None
    with file:
        try:
            try_lock(file)
        except OSError as error:
            if error.errno in HELD:
                raise StudioError(f"data_dir: {_holder(data_dir)} works in this folder already. Use that one, end it, "
                                  "or give this one a folder of its own with --data-dir.") from None
            log.warning("data_dir: this disk knows no locks (%s), so a second app would not be noticed", error.strerror)
        since = f"{datetime.now():%Y-%m-%d %H:%M}"

        def tell(url: str = "") -> None:
            with suppress(OSError):  # a full disk: it is not said then who holds the lock
                (data_dir / APP_FILE).write_text(json.dumps(
                    {"pid": os.getpid(), "host": socket.gethostname(), "url": url, "since": since}), encoding="utf-8")

        tell()
        try:
            yield tell
        finally:
            with suppress(OSError):
                (data_dir / APP_FILE).unlink()


def try_lock(file: IO[str] | IO[bytes]) -> None:
    """Lock an open file for this process, or raise OSError at once."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _wait(file: IO[str] | IO[bytes]) -> None:
    try:
        import fcntl
    except ImportError:
        _wait_on_windows(file)
    else:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)


def _wait_on_windows(file: IO[str] | IO[bytes]) -> None:
    import msvcrt

    while True:
        try:
            file.seek(0)
            return msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # tries for ten seconds
        except OSError as error:
            if error.errno not in HELD:
                return None


def _holder(data_dir: Path) -> str:
    try:
        said = json.loads((data_dir / APP_FILE).read_text("utf-8"))
        where = f" on {said['host']}" if said["host"] != socket.gethostname() else ""
        at = f" at {said['url']}" if said["url"] else ""
        return f"another Atelier (process {said['pid']}{where}{at}, since {said['since']})"
    except (OSError, ValueError, TypeError, KeyError):
        return "another Atelier"
