"""What nobody needs any more, cleared at the start: files of a studio that was killed, and forgotten uploads.

Everything here is older than it could be in use. An upload is touched whenever it is used, a form that comes back with
it included, so its age is the time in which nobody did; one of which a kept picture was made stays for good.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from time import time

log = logging.getLogger(__name__)

DAY_S = 24 * 3600.0
FORGOTTEN_S = 90 * DAY_S  # an upload that nobody used for so long; pages remember their pictures
# What is written beside its place first, and is there only if that was cut off. Half a download is none: it goes on.
HALF_MADE = ("inputs/.adding-*", "datasets/.adding-*", "outputs/*/.*.part", "loras/.*.new", "models/.*.new",
             "runs/*/**/.*.new")
SOURCES = re.compile(r"\b(?:Image|Mask) hash: ([0-9a-f]{12})")  # as a picture's settings name what it was made of
UPLOAD = re.compile(r"[0-9a-f]{64}\.png")


def clear(data_dir: Path, infotexts: Callable[[], Iterable[str]]) -> int:
    """Remove what is left over in a data folder; returns how many files and folders that were. Never raises.

    infotexts: gives the settings of every picture that is kept.
    """
    now = time()
    old = [path for pattern in HALF_MADE for path in data_dir.glob(pattern) if _age_s(path, now) > DAY_S]
    old += [path for path in _files(data_dir / "cache") if _age_s(path, now) > DAY_S]  # what pages showed
    forgotten = [path for path in (data_dir / "inputs").glob("*.png")
                 if UPLOAD.fullmatch(path.name) and _age_s(path, now) > FORGOTTEN_S]
    if forgotten:
        wanted = {source for text in infotexts() for source in SOURCES.findall(text)}
        old += [path for path in forgotten if path.name[:12] not in wanted]
    for path in old:
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for folder, _, _ in os.walk(data_dir / "cache", topdown=False):
        if Path(folder) != data_dir / "cache":
            with suppress(OSError):  # it is not empty
                os.rmdir(folder)
    if old:
        log.info("cleared %d files that nobody needs any more", len(old))
    return len(old)


def _files(folder: Path) -> Iterator[Path]:
    return (Path(place, name) for place, _, names in os.walk(folder) for name in names)


def _age_s(path: Path, now: float) -> float:
    """Since it was written or put here, whichever is later; copies have the times of what they are copies of."""
    try:
        facts = path.lstat()
    except OSError:
        return 0.0
    return now - max(facts.st_mtime, facts.st_ctime)
