"""Styles: named pieces of prompt, kept in AUTOMATIC1111's styles.csv (name, prompt, negative_prompt)."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import RequestError, StudioError, quoted
from ..machine.locks import locked
from .comments import without_comments

COLUMNS = ("name", "prompt", "negative_prompt")
MARK = "{prompt}"
MAX_FILE_BYTES = 16_000_000
MAX_FIELD = 100_000
MAX_NAME = 100
MAX_STYLES = 5_000
TEXT_MARK = "'"  # as spreadsheets write it
FORMULA = re.compile(rf"{TEXT_MARK}*\s*[=+\-@]|[\t\r]")  # how a cell begins that a spreadsheet calculates


@dataclass(frozen=True)
class Style:
    """A piece of prompt. With {prompt} in it, it goes around what was typed; without, it comes after."""

    name: str
    prompt: str = ""
    negative_prompt: str = ""


class Styles:
    """The styles of one file. It may be edited by hand meanwhile: it is read again whenever it has changed."""

    def __init__(self, path: Path, check_allowed: Callable[[], None] = lambda: None):
        self._path, self._check_allowed = path, check_allowed
        self._seen: tuple[object, tuple[Style, ...]] = (None, ())

    def all(self) -> tuple[Style, ...]:
        """Every style, in the file's order. Raises StudioError when the file is no such table."""
        try:
            stat = self._path.stat()
        except OSError:
            return ()
        sign = (stat.st_mtime_ns, stat.st_size)
        if self._seen[0] != sign:
            self._seen = (sign, read(self._path))
        return self._seen[1]

    def named(self, names: Iterable[str]) -> tuple[Style, ...]:
        """The styles of these names, in this order. Raises RequestError for one that is not there."""
        known = {style.name: style for style in self.all()}
        for name in names:
            if name not in known:
                raise RequestError(f"Styles: there is none called {quoted(name, MAX_NAME)}.", "styles")
        return tuple(known[name] for name in names)

    def save(self, *styles: Style) -> None:
        """Add styles, or put them in the place of those of the same names. Raises StudioError for a bad name."""
        for style in styles:
            if not style.name.strip() or len(style.name) > MAX_NAME:
                raise StudioError(f"Name: a style needs one, of at most {MAX_NAME} characters.")
        self._change(lambda known: tuple({style.name: style for style in (*known, *styles)}.values()))

    def delete(self, name: str) -> None:
        """Take a style out of the file; the file before stays as .bak."""
        self._change(lambda known: tuple(style for style in known if style.name != name))

    def _change(self, change: Callable[[tuple[Style, ...]], tuple[Style, ...]]) -> None:
        """Read, change and write the file while no other thread or process does."""
        self._check_allowed()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self._path.with_name(f".{self._path.name}.lock")):
                changed_styles = change(read(self._path))
                if len(changed_styles) > MAX_STYLES:
                    raise StudioError(f"There are {len(changed_styles):,} styles. At most {MAX_STYLES:,}.")
                write(self._path, changed_styles)
        except OSError as error:
            raise StudioError(f"Styles: they cannot be written: {error.strerror or 'the disk refused'}.") from None
        self._seen = (None, ())  # within a tick of the disk's clock, two files may have one time and size


def apply(prompt: str, negative_prompt: str, styles: Iterable[Style]) -> tuple[str, str]:
    """Put styles on both prompts, in order. A style's own comments are left out: what comes behind it is none."""
    for style in styles:
        prompt = _joined(prompt, without_comments(style.prompt))
        negative_prompt = _joined(negative_prompt, without_comments(style.negative_prompt))
    return prompt, negative_prompt


def _joined(prompt: str, style: str) -> str:
    if MARK in style:
        return style.replace(MARK, prompt)
    return ", ".join(text for text in (prompt.strip(), style.strip()) if text) if style.strip() else prompt


def read(path: Path) -> tuple[Style, ...]:
    """Read a styles file of any encoding; none gives no styles. Of equal names the last one counts.

    Knows the older form with the columns name and text. Raises StudioError when the file is no such table.
    """
    if not path.is_file():
        return ()
    with path.open("rb") as opened:
        raw = opened.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        raise StudioError(f"The styles file is larger than {MAX_FILE_BYTES // 1_000_000} MB.")
    styles: dict[str, Style] = {}
    try:
        rows = list(csv.DictReader(io.StringIO(decoded(raw), newline=""), skipinitialspace=True, restval=""))
    except csv.Error as error:
        raise StudioError(f"The styles file is no table of comma-separated values: {error}.") from None
    if rows and "name" not in rows[0]:
        raise StudioError("The styles file has no column called name.")
    for row in rows:
        name = _as_typed(row["name"])
        if name.strip():
            text = row["prompt"] if "prompt" in row else row.get("text", "")
            styles[name] = Style(name, _as_typed(text)[:MAX_FIELD],
                                 _as_typed(row.get("negative_prompt", ""))[:MAX_FIELD])
    return tuple(styles.values())


def write(path: Path, styles: Sequence[Style]) -> None:
    """Write a styles file as AUTOMATIC1111 does, complete or not at all; the one before stays as .bak."""
    half = path.with_name(f"{path.name}.{os.getpid()}.new")
    half.parent.mkdir(parents=True, exist_ok=True)
    with half.open("w", encoding="utf-8-sig", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(COLUMNS)
        writer.writerows(map(_as_text, (style.name, style.prompt, style.negative_prompt)) for style in styles)
    if path.is_file():  # copied, so that there is a file at every moment
        shutil.copyfile(path, path.with_name(f"{path.name}.bak"))
    half.replace(path)


def _as_text(cell: str) -> str:
    """Mark a cell as text where a spreadsheet would take it for a formula, and run it."""
    return TEXT_MARK + cell if FORMULA.match(cell) else cell


def _as_typed(cell: str) -> str:
    return cell[len(TEXT_MARK):] if cell.startswith(TEXT_MARK) and FORMULA.match(cell[len(TEXT_MARK):]) else cell


def decoded(raw: bytes) -> str:
    """Decode by byte order mark, else as UTF-8, else as the Windows code page that spreadsheets save in."""
    for mark, encoding in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
                           (codecs.BOM_UTF16_BE, "utf-16")):
        if raw.startswith(mark):
            return raw.decode(encoding, "replace").replace("\0", "")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("cp1252", "replace")
    return text.replace("\0", "")
