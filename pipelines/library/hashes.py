"""The SHA-256 of model files. A file is read once for it, whatever asks: the store keeps it by path, size and time."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..machine.locks import locked
from .read.card import weight_files
from .store import FILE_NAME, Store

AUTO_V2, AUTO_V3 = 10, 12  # digits of the hashes that Civitai shows
CHUNK_BYTES = 1 << 20
OLD_PLACE, OLD_BYTES, OLD_DIGITS = 0x100000, 0x10000, 8  # of what AUTOMATIC1111 hashed before version 1.0
LOCKS = 16  # files that readers of one model file wait at


@dataclass(frozen=True)
class FileHashes:
    """whole: of the file. body: of what follows a safetensors header, "" where there is none. Hex digits."""

    whole: str
    body: str

    @property
    def auto_v2(self) -> str:
        return self.whole[:AUTO_V2]

    @property
    def auto_v3(self) -> str:
        return self.body[:AUTO_V3]


class Hashes:
    """The hashes of one data folder. It holds no state: any thread and any process may make its own."""

    def __init__(self, data_dir: Path):
        self._folder, self._store = data_dir, Store(data_dir / FILE_NAME)

    def of(self, path: Path, core: str = "unet", *, stamp: str = "",
           stopped: Callable[[], bool] = lambda: False) -> FileHashes:
        """The hashes of a file, or of a folder's core. Read where they are not known yet, by one reader at a time.

        stamp: of the file as it was found; without it the file is asked. Raises OSError, ModelError, or
        InterruptedError when `stopped` says so.
        """
        file = weight_files(path, core)[0][0] if path.is_dir() else path
        stamp = stamp or _stamp(file)
        if known := self._known(file, stamp):
            return known
        name = f".hashes-{int(hashlib.sha256(str(file).encode(errors='surrogateescape')).hexdigest(), 16) % LOCKS}.lock"
        self._folder.mkdir(parents=True, exist_ok=True)
        with locked(self._folder / name):
            if known := self._known(file, stamp):
                return known
            found = read(file, stopped)
            if _stamp(file) == stamp:  # else it is another file by this time
                with suppress(sqlite3.Error, OSError):  # a full disk: it is found again the next time
                    self._store.keep_hashes(str(file), stamp, found.whole, found.body)
        return found

    def _known(self, file: Path, stamp: str) -> FileHashes | None:
        try:
            return FileHashes(*row) if (row := self._store.hashes_of(str(file), stamp)) else None
        except (sqlite3.Error, OSError):
            return None


def file_stamp(size_bytes: int, modified_s: float) -> str:
    """What a hash is kept under."""
    return f"{size_bytes} {modified_s!r}"


def read(file: Path, stopped: Callable[[], bool] = lambda: False) -> FileHashes:
    """Read a file from its begin to its end. Raises OSError, or InterruptedError when `stopped` says so."""
    whole, body = hashlib.sha256(), hashlib.sha256()
    with file.open("rb") as opened:
        head = opened.read(8)
        has_header = file.suffix.lower() == ".safetensors"
        left = int.from_bytes(head, "little") if has_header else 0
        whole.update(head)
        while chunk := opened.read(min(CHUNK_BYTES, left) if left else CHUNK_BYTES):
            if stopped():
                raise InterruptedError
            whole.update(chunk)
            if has_header and not left:
                body.update(chunk)
            left = max(0, left - len(chunk))
    return FileHashes(whole.hexdigest(), body.hexdigest() if has_header else "")


def old_hash(file: Path) -> str:
    """The 8 digits that AUTOMATIC1111 showed before version 1.0, of one part of the file; "" where there is none."""
    try:
        with file.open("rb") as opened:
            opened.seek(OLD_PLACE)
            part = opened.read(OLD_BYTES)
    except OSError:
        return ""
    return hashlib.sha256(part).hexdigest()[:OLD_DIGITS] if part else ""


def _stamp(file: Path) -> str:
    facts = file.stat()
    return file_stamp(facts.st_size, facts.st_mtime)
