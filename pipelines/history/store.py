"""Finished pictures on disk: dated folders, file names of our own, and a line about each in index.jsonl."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path

from PIL import Image

from .. import metadata
from ..errors import StudioError
from ..events import Event, Notice, Record, Saved
from ..machine.locks import locked

log = logging.getLogger(__name__)

INDEX = "index.jsonl"
LOCK = ".index.lock"  # of all days: names are given, and lists written, by one process at a time
NAME = re.compile(r"(?:grid-)?(\d{5,})(?:-\d+)?\.png")
ID = re.compile(rf"(\d{{4}}-\d\d-\d\d)/({NAME.pattern})", re.ASCII)


@dataclass(frozen=True)
class Made:
    """A picture to be stored. owner: id of the browser that asked, "" for none."""

    image: Image.Image
    infotext: str
    seed: int
    task: str
    seconds: float
    owner: str = ""
    is_grid: bool = False


class Results:
    """Writes to folder/YYYY-MM-DD/00001-SEED.png. embed: whether the text goes into the file as well."""

    def __init__(self, folder: Path, embed: bool = True):
        self._folder, self._embed = folder, embed

    def save(self, made: Made) -> Iterator[Event]:
        """Store a picture and yield Saved. What cannot be written is shown all the same, with a Notice why."""
        facts = dict(infotext=made.infotext, seed=made.seed, width=made.image.width, height=made.image.height,
                     task=made.task, seconds=round(made.seconds, 2), is_grid=made.is_grid)
        try:
            path = self._write(made, facts)
        except OSError as error:
            log.warning("a picture could not be saved: %s", error)
            yield Notice(f"The picture could not be saved: {error.strerror or 'the disk refused'}"
                         f"{self._room()}. Download it here before you leave the page.")
            yield Saved(Record(path=None, image=made.image, **facts))
        else:
            yield Saved(Record(path=path, **facts))

    def today(self, owner: str | None = None, limit: int = 200) -> list[Record]:
        """Pictures of today, newest first; only an owner's when one is named. Damaged lines are passed over."""
        records = self._records(self._folder / date.today().isoformat())
        mine = (record for by, record in records if owner in (None, by) and record.path.is_file())
        return list(islice(mine, limit))

    def newest(self, owner: str | None = None, days: int = 2, limit: int = 10_000) -> list[Record]:
        """Pictures of the last days on which some were made, newest first; only an owner's when one is named."""
        folders = sorted((index.parent for index in self._folder.glob(f"*/{INDEX}")), reverse=True)
        records = (pair for folder in folders[:days] for pair in self._records(folder))
        mine = (record for by, record in records if owner in (None, by) and record.path.is_file())
        return list(islice(mine, limit))

    def infotexts(self) -> Iterator[str]:
        """The settings of every picture that is still there, of all days."""
        for index in self._folder.glob(f"*/{INDEX}"):
            yield from (record.infotext for _, record in self._records(index.parent) if record.path.is_file())

    def _records(self, folder: Path) -> Iterator[tuple[str, Record]]:
        """(owner, record) of the pictures that were made on a day, newest first."""
        try:
            lines = (folder / INDEX).read_text(encoding="utf-8").splitlines()
        except OSError:
            return
        for line in reversed(lines):
            try:
                entry = json.loads(line)
                name, by = entry.pop("file"), entry.pop("owner")
                record = Record(path=folder / name, **entry)
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
            if NAME.fullmatch(name):
                yield by, record

    def delete(self, record_id: str, owner: str) -> None:
        """Remove a picture and its line in the index. Raises StudioError for one that is not this owner's."""
        match = ID.fullmatch(record_id)
        folder, name = (self._folder / match[1], match[2]) if match else (self._folder, "")
        index = folder / INDEX
        try:
            with self._alone():
                lines = index.read_text(encoding="utf-8").splitlines(keepends=True) if name and owner else []
                kept = [line for line in lines if not _tells_of(line, name, owner)]
                if len(kept) == len(lines):
                    raise StudioError("Picture: it is not among yours, or it was deleted already.")
                (folder / name).unlink(missing_ok=True)
                new = index.with_suffix(".new")
                new.write_text("".join(kept), encoding="utf-8")
                os.replace(new, index)
        except OSError as error:
            raise StudioError(f"The picture could not be deleted: {error.strerror or 'the disk refused'}.") from None

    def _write(self, made: Made, facts: dict) -> Path:
        folder = self._folder / date.today().isoformat()
        path = self._take(folder, made)
        try:
            metadata.save_png(made.image, path, made.infotext if self._embed else None)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        with self._alone(), (folder / INDEX).open("a", encoding="utf-8") as index:
            # The line break comes first: one that was cut off by a full disk or a crash spoils itself alone.
            index.write("\n" + json.dumps({"file": path.name, "owner": made.owner, **facts}))
        return path

    def _take(self, folder: Path, made: Made) -> Path:
        """Make an empty file under a name of its own, whose number nobody else has."""
        folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            number = 1 + max((int(match[1]) for match in map(NAME.fullmatch, _names(folder)) if match), default=0)
            while True:  # on a disk without locks somebody may be quicker
                path = folder / (f"grid-{number:05d}.png" if made.is_grid else f"{number:05d}-{made.seed}.png")
                with suppress(FileExistsError):
                    path.open("xb").close()
                    return path
                number += 1

    def _alone(self) -> AbstractContextManager[None]:
        """Keep every other thread and process from names and lists. Raises OSError for a folder that is not there."""
        return locked(self._folder / LOCK)

    def _room(self) -> str:
        try:
            return f" ({shutil.disk_usage(self._folder).free // 2**20} MB free)"
        except OSError:
            return ""


def _tells_of(line: str, name: str, owner: str) -> bool:
    try:
        entry = json.loads(line)
        return (entry["file"], entry["owner"]) == (name, owner)
    except (ValueError, TypeError, KeyError):  # a damaged line
        return False


def _names(folder: Path) -> Iterator[str]:
    return (path.name for path in folder.iterdir())
