"""What lies in a folder of training pictures: every file by its kind, and what is no such file. Imports no torch.

Links are followed: the hub's cache keeps a dataset as links, and many people gather theirs so.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import RequestError
from ...images.files import SUFFIXES

PICTURES = (*SUFFIXES, ".heic", ".heif", ".jxl")  # the last ones to be named: they cannot be read
TEXTS = (".txt", ".caption")
TABLES = (".jsonl", ".csv", ".tsv")
NAMES_FILE = ".names.json"  # in a folder that was unpacked from a zip: what its files were called there
MASK = "-masklabel"  # ends the stem of a picture that is another's mask
JUNK = ("thumbs.db", "desktop.ini")
MAX_FILES = 100_000
MAX_NAMES_BYTES = 16_000_000
SHOWN = 3  # names in a sentence


@dataclass(frozen=True)
class File:
    """path: on the disk. name: to be shown, relative to the dataset's folder, with /. place: where the person had it,
    from the dataset's own folder on; of an unpacked zip, from the zip's top on."""

    path: Path
    name: str
    place: PurePosixPath

    @property
    def suffix(self) -> str:
        return self.path.suffix.lower()


@dataclass(frozen=True)
class Listing:
    """files: those that can be read. broken: links and others that cannot, with the reason. unused: names of other
    kinds. links, closed: names of folders that are not followed, and that cannot be opened."""

    files: tuple[File, ...]
    broken: tuple[tuple[File, str], ...]
    unused: tuple[str, ...]
    links: tuple[str, ...]
    closed: tuple[str, ...]

    def of(self, suffixes: tuple[str, ...]) -> list[File]:
        """The files of a kind."""
        return [file for file in self.files if file.suffix in suffixes]


def is_junk(parts: tuple[str, ...]) -> bool:
    """Whether a path is what operating systems leave behind: __MACOSX, ._*, .DS_Store, Thumbs.db."""
    return any(part == "__MACOSX" or part.startswith(".") for part in parts) or parts[-1].lower() in JUNK


def fold_name(name: str) -> str:
    """A name as it is compared: macOS takes letters and their accents apart (NFD), and capitals are no difference."""
    return unicodedata.normalize("NFC", name).casefold()


def join_names(names: Iterable[str]) -> str:
    """The first names of a list, and how many follow."""
    names = [name[:80] for name in names]
    first = ", ".join(names[:SHOWN])
    return f"{first} and {len(names) - SHOWN} more" if len(names) > SHOWN else first


def read_listing(root: Path) -> Listing:
    """List a folder and those below it in a stable order. Raises RequestError for far too many files."""
    root = root.absolute()
    originals, unused = _read_names(root)
    files: list[File] = []
    broken: list[tuple[File, str]] = []
    unused, links, closed = list(unused), [], []
    for number, path in enumerate(_walk(root, links, closed)):
        if number >= MAX_FILES:
            raise RequestError(f"Data: there are more than {MAX_FILES:,} files in it.", "data")
        name = _as_text(path.relative_to(root))
        original = originals.get(name)
        place = PurePosixPath(original) if original else PurePosixPath(root.name, name)
        file = File(path, name, place)
        if file.suffix not in (*PICTURES, *TEXTS, *TABLES):
            unused.append(name)
        elif path.is_file():
            files.append(file)
        else:
            broken.append((file, "a link that leads nowhere" if path.is_symlink() else "not a plain file"))
    return Listing(tuple(files), tuple(broken), tuple(unused), tuple(links), tuple(closed))


def write_names(folder: Path, originals: dict[str, str], unused: Iterable[str]) -> None:
    """Keep what files were called before they were unpacked into `folder`, and what was not taken over."""
    table = {"names": originals, "unused": list(unused)}
    (folder / NAMES_FILE).write_text(json.dumps(table, ensure_ascii=False), encoding="utf-8")


def _walk(root: Path, links: list[str], closed: list[str]) -> Iterator[Path]:
    """Every file below a folder but junk. links: gets the linked folders that would be read twice or without end.
    closed: gets those that cannot be opened."""
    seen = {root.resolve()}

    def refused(error: OSError) -> None:
        closed.append(_as_text(Path(error.filename).relative_to(root)))

    for place, folders, names in os.walk(root, followlinks=True, onerror=refused):
        kept = []
        for name in sorted(folders):
            path = Path(place, name)
            real = path.resolve()
            if is_junk((name,)):
                continue
            if real in seen or root.resolve().is_relative_to(real):
                links.append(_as_text(path.relative_to(root)))
                continue
            seen.add(real)
            kept.append(name)
        folders[:] = kept
        yield from (Path(place, name) for name in sorted(names) if not is_junk((name,)))


def _as_text(path: Path) -> str:
    """A path as text. Names of other systems may be no UTF-8, and such text could be written nowhere."""
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")


def _read_names(root: Path) -> tuple[dict[str, str], list[str]]:
    """What `write_names` wrote; nothing for a folder that was not unpacked."""
    file = root / NAMES_FILE
    try:
        if file.stat().st_size > MAX_NAMES_BYTES:
            return {}, []
        table = json.loads(file.read_text("utf-8"))
        names, unused = table["names"], table["unused"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}, []
    if not isinstance(names, dict) or not isinstance(unused, list):
        return {}, []
    return ({key: value for key, value in names.items() if isinstance(value, str)},
            [name for name in unused if isinstance(name, str)])
