"""The training pictures that people bring: copies of our own, in folders of the data directory. Imports no torch.

The user's files are never changed; captions typed at the page are written beside the copies.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import RequestError, StudioError, quoted
from ...images.files import SHOWN
from ..example import DRAWINGS
from . import archive
from .decoding import Encoding
from .listing import PICTURES, TABLES, TEXTS, fold_name, write_names
from .survey import Survey, survey
from .tables import check_size

NAME = re.compile(r"[^\W_][\w.+-]{0,79}(?: [\w.+-]+)*")
MAX_FILES = 2_000
MAX_CAPTION = 4_000


class Datasets:
    """Folders of pictures by name. root: where copies lie. browsable: a folder of the server that may be named."""

    def __init__(self, root: Path, browsable: Path | None = None):
        self._root, self._browsable = root, browsable

    def names(self) -> tuple[str, ...]:
        """What can be trained on: uploads, newest first; the folders of the server; the example comes last."""
        own, others = _folders(self._root), _folders(self._browsable, links=True)
        own.sort(key=lambda path: -path.stat().st_mtime)
        return tuple(dict.fromkeys([*(path.name for path in own + others), EXAMPLE]))

    def name_of(self, folder: Path) -> str | None:
        """The name of a folder that a run was trained on, or None when it is no dataset of ours any more."""
        return next((name for name in self.names() if self.folder(name) == folder), None)

    def folder(self, name: str) -> Path:
        """Where a dataset lies. Raises RequestError for an unknown name; names are looked up, never joined."""
        if not name:
            raise RequestError("Data: none was chosen.", "data")
        if name == EXAMPLE:
            return DRAWINGS
        for path in _folders(self._root) + _folders(self._browsable, links=True):
            if path.name == name:
                return path
        raise RequestError(f"Data: there is no dataset {quoted(name)}.", "data")

    def add(self, files: Sequence[Path], name: str) -> str:
        """Copy pictures and captions, or unpack one zip, into a new dataset; returns its name.

        Files of other kinds are left out, and named when the dataset is looked at. Raises RequestError for a bad name,
        too many files, two of one name, none that is a picture, or a zip that is no harmless one.
        """
        name = " ".join(name.split())[:80] or "pictures"
        if not NAME.fullmatch(name):
            raise RequestError(f"Name: {quoted(name)} is not possible. Letters, digits and . _ + - inside.", "name")
        zips = [path for path in files if path.suffix.lower() == ".zip"]
        if zips and len(files) > 1:
            raise RequestError("Data: give one zip, or pictures, not both.", "data")
        if len(files) > MAX_FILES:
            raise RequestError(f"Data: {len(files):,} files are too many; the limit is {MAX_FILES:,}. "
                               "Put them into a zip.", "data")
        wanted = _wanted(files)
        if not zips and not any(path.suffix.lower() in PICTURES for path in wanted):
            raise RequestError(f"Data: there is no picture among the files. {SHOWN} can be read.", "data")
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".adding-", dir=self._root) as half:
                made = Path(half) / "pictures"
                if zips:
                    archive.unpack(zips[0], made)
                else:
                    made.mkdir()
                    for path in wanted:
                        shutil.copyfile(path, made / path.name)
                    write_names(made, {}, [path.name for path in files if path not in wanted])
                return self._placed(made, name)
        except OSError as error:
            raise StudioError(f"The pictures cannot be stored: {error.strerror or 'the disk refuses them'}.") from None

    def look(self, name: str, *, resolution: int, count_tokens: Callable[[str], int] | None = None,
             encoding: Encoding = "auto") -> Survey:
        """Decode every picture and say of each whether it is used, and why not."""
        return survey(self.folder(name), resolution=resolution, count_tokens=count_tokens, encoding=encoding)

    def caption(self, name: str, picture: str, text: str) -> None:
        """Write captions, one a line, beside one picture of our own copy. picture: its name as `look` gives it."""
        folder = self.folder(name)
        if folder.parent != self._root:
            raise RequestError("Data: the captions of this folder are only read. Upload a copy to change them.", "data")
        if len(text) > MAX_CAPTION:
            raise RequestError(f"Caption: {len(text):,} characters are too many; the limit is {MAX_CAPTION:,}.", "data")
        path = next((path for path in folder.rglob("*") if path.relative_to(folder).as_posix() == picture), None)
        if path is None or path.suffix.lower() not in PICTURES:
            raise RequestError(f"Data: there is no picture {quoted(picture)}.", "data")
        lines = (" ".join(line.split()) for line in text.splitlines())
        path.with_suffix(".txt").write_text("\n".join(filter(None, lines)), encoding="utf-8")

    def _placed(self, made: Path, name: str) -> str:
        """Give a folder its name. It is chosen at the end: another page or program may bring the same one meanwhile."""
        while True:
            target = self._root / self._unused(name)
            try:
                return made.rename(target).name
            except OSError:  # a folder with something in it is not replaced
                if not target.exists():
                    raise

    def _unused(self, name: str) -> str:
        number, free = 1, name
        while (self._root / free).exists() or free == EXAMPLE:
            number += 1
            free = f"{name}-{number}"
        return free


def _wanted(files: Sequence[Path]) -> list[Path]:
    """The pictures, captions and tables among files. Raises RequestError for two that would become one, and for a
    table beyond the limit."""
    wanted = [path for path in files if path.suffix.lower() in (*PICTURES, *TEXTS, *TABLES)]
    seen: set[str] = set()
    for path in wanted:
        if fold_name(path.name) in seen:
            raise RequestError(f"Data: two of the files are called {quoted(path.name, 80)}. Put them into a zip, with "
                               "their folders.", "data")
        seen.add(fold_name(path.name))
        if path.suffix.lower() in TABLES:
            check_size(path.name, path.stat().st_size)
    return wanted


def _folders(root: Path | None, *, links: bool = False) -> list[Path]:
    """The folders in a place, by name. links: those that lead out of it too, as the owner of the place put them there.
    """
    if root is None:
        return []
    return sorted(path for path in root.glob("*") if path.is_dir() and not path.name.startswith(".")
                  and (links or path.resolve().is_relative_to(root.resolve())))


EXAMPLE = "ink drawings (example)"
