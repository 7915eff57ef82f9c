"""What was read of files, kept in one small SQLite file, so that an unchanged file is never opened again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from .recognise import Finding
from .sidecars import Said

FILE_NAME = "library.sqlite"
BUSY_S = 10
TABLES = """
CREATE TABLE IF NOT EXISTS findings (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, finding TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hashes (path TEXT PRIMARY KEY, stamp TEXT NOT NULL, whole TEXT NOT NULL, body TEXT NOT NULL)
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS reader (version TEXT NOT NULL);
"""


class Store:
    """Findings and hashes by path and stamp. It is only a cache: a damaged file is thrown away and made anew.

    A connection is opened for each call, so any thread and any process may use it.
    """

    def __init__(self, file: Path):
        self._file = file

    def findings(self) -> dict[str, tuple[str, Finding]]:
        """Path -> (stamp, what was found), as read by this version of the readers."""
        if not self._file.is_file():
            return {}
        with self._opened() as database:
            rows = database.execute("SELECT path, stamp, finding FROM findings").fetchall()
        return {path: (stamp, _from_json(text)) for path, stamp, text in rows}

    def keep(self, rows: Iterable[tuple[str, str, Finding]]) -> None:
        """Write (path, stamp, finding)s in one transaction."""
        texts = [(path, stamp, _to_json(finding)) for path, stamp, finding in rows]
        if texts:
            with self._opened() as database:
                database.executemany("INSERT OR REPLACE INTO findings VALUES (?, ?, ?)", texts)

    def forget(self, paths: Iterable[str]) -> None:
        """Drop what was found under these paths; their hashes stay, in case a disk comes back."""
        gone = [(path,) for path in paths]
        if gone:
            with self._opened() as database:
                database.executemany("DELETE FROM findings WHERE path = ?", gone)

    def hashes(self) -> dict[str, tuple[str, str, str]]:
        """Path -> (stamp, SHA-256 of the file, SHA-256 of what follows its header or "")."""
        if not self._file.is_file():
            return {}
        with self._opened() as database:
            return {row[0]: row[1:] for row in database.execute("SELECT path, stamp, whole, body FROM hashes")}

    def hashes_of(self, path: str, stamp: str) -> tuple[str, str] | None:
        """The two hashes of a file, where those of this stamp are known."""
        if not self._file.is_file():
            return None
        with self._opened() as database:
            return database.execute("SELECT whole, body FROM hashes WHERE path = ? AND stamp = ?",
                                    (path, stamp)).fetchone()

    def keep_hashes(self, path: str, stamp: str, whole: str, body: str) -> None:
        """Write the two hashes of a file."""
        with self._opened() as database:
            database.execute("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?)", (path, stamp, whole, body))

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        try:
            database = self._connected()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):  # locked, or a disk that is full or read-only
                raise
            self._file.unlink(missing_ok=True)
            database = self._connected()
        try:
            with database:
                yield database
        finally:
            database.close()

    def _connected(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._file, timeout=BUSY_S)
        try:
            with database:
                if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'reader'").fetchone():
                    database.executescript(TABLES)
                if database.execute("SELECT version FROM reader").fetchone() != (_reader(),):
                    database.execute("DELETE FROM findings")
                    database.execute("DELETE FROM reader")
                    database.execute("INSERT INTO reader VALUES (?)", (_reader(),))
        except BaseException:
            database.close()
            raise
        return database


@cache
def _reader() -> str:
    """A name for the code that reads files: what another version of it found is not believed."""
    here = Path(__file__).parents[1]
    sources = [file for name in ("families", "library") for file in sorted((here / name).rglob("*.py"))]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


def _to_json(finding: Finding) -> str:
    return json.dumps({**{one.name: getattr(finding, one.name) for one in dataclasses.fields(finding)},
                       "said": vars(finding.said)})


def _from_json(text: str) -> Finding:
    kept: dict[str, Any] = json.loads(text)
    said = kept.pop("said")
    return Finding(**kept, said=Said(**{**said, "trigger_words": tuple(said["trigger_words"])}))
