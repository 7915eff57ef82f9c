"""Tables of captions: metadata.jsonl and metadata.csv as datasets' imagefolder reads them, and others of their shape.

A line names a picture and says one or more captions of it. Imports no torch.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import RequestError
from .decoding import decode
from .listing import PICTURES, TABLES, File, fold_name, join_names

MAX_TABLE_BYTES = 16_000_000
MAX_LINES = 200_000
MAX_LINE = 64 * 1024  # characters
NAME_KEYS = ("file_name", "filename", "file", "image", "image_path", "file_path", "path", "image_file", "img")
TEXT_KEYS = ("text", "caption", "captions", "prompt", "description", "tags")
USUAL = "metadata"  # stem of a table as others write it; it goes before tables of other names
SHOWN_NUMBERS = 3

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """name: of a picture, as the table writes it. texts: its captions."""

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """lines: those that can be read. damaged: numbers of the others."""

    file: File
    lines: tuple[Line, ...]
    damaged: tuple[int, ...] = ()


def check_size(name: str, size: int) -> None:
    """Raise RequestError for a table that is too large, before it is read."""
    if size > MAX_TABLE_BYTES:
        raise RequestError(f"Data: {name[:80]} has more than {MAX_TABLE_BYTES // 10**6} MB, the limit for a table of "
                           "captions.", "data")


def read_tables(files: Sequence[File], encoding: str) -> tuple[list[Table], list[str]]:
    """Read every table; returns them, the nearest to the pictures first, and sentences about what is not read.

    Raises RequestError for one beyond the limits.
    """
    tables, notes = [], []
    for file in sorted(files, key=lambda one: (-len(one.place.parts), fold_name(one.place.stem) != USUAL,
                                               TABLES.index(one.suffix), one.name)):
        try:
            check_size(file.name, file.path.stat().st_size)
            data = file.path.read_bytes()
        except OSError:
            notes.append(f"{file.name[:80]} is not used: the file cannot be opened.")
            continue
        text, why = decode(data, encoding)
        if text is None:
            notes.append(f"{file.name[:80]} is not used: {why}.")
            continue
        if why:
            notes.append(f"{file.name[:80]}: the table is {why}.")
        table = _parse(file, text)
        if table is None:
            notes.append(f"{file.name[:80]} is not used: it has no column file_name.")
            continue
        tables.append(table)
        if table.damaged:
            numbers = ", ".join(map(str, table.damaged[:SHOWN_NUMBERS]))
            notes.append(f"{file.name[:80]}: {len(table.damaged)} of its lines cannot be read, the first: {numbers}.")
    return tables, notes


def match(tables: Sequence[Table], pictures: Sequence[File]) -> tuple[dict[Path, list[tuple[File, Parts]]], list[str]]:
    """What tables say of pictures: path -> (table, captions), and sentences about lines that name no picture."""
    below: dict[Parts, list[tuple[Path, Parts]]] = {}  # folder -> pictures in it and in those below
    for picture in pictures if tables else ():
        parts = _parts(str(picture.place))
        for depth in range(len(parts)):
            below.setdefault(parts[:depth], []).append((picture.path, parts))
    found: dict[Path, list[tuple[File, Parts]]] = {}
    notes = []
    for table in tables:
        folder = _parts(str(table.file.place.parent))
        captions, lost = _match_one(table, len(folder), below.get(folder, ()))
        for path, texts in captions.items():
            found.setdefault(path, []).append((table.file, texts))
        if lost:
            notes.append(f"{table.file.name[:80]}: {len(lost)} of its lines name no picture here: {join_names(lost)}.")
    return found, notes


def _parse(file: File, text: str) -> Table | None:
    """The lines of a table; None for one without a column of names."""
    if max(text.count("\n"), text.count("\r")) > MAX_LINES:
        raise RequestError(f"Data: {file.name[:80]} has more than {MAX_LINES:,} lines, the limit for a table of "
                           "captions.", "data")
    rows = _json_rows(text) if file.suffix == ".jsonl" else _csv_rows(text, file.suffix)
    lines, damaged, named = [], [], False
    for number, row in rows:
        line = None if row is None else _line(row)
        named = named or row is not None and any(key in row for key in NAME_KEYS)
        if line is None:
            damaged.append(number)
        else:
            lines.append(line)
    return Table(file, tuple(lines), tuple(damaged)) if named else None


def _json_rows(text: str) -> Iterator[tuple[int, dict[str, object] | None]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line) if len(line) <= MAX_LINE else None
        except (ValueError, RecursionError):
            row = None
        yield number, {key.casefold(): value for key, value in row.items()} if isinstance(row, dict) else None


def _csv_rows(text: str, suffix: str) -> Iterator[tuple[int, dict[str, object] | None]]:
    """Rows by the names of the first one; a table without such names is one of picture and caption.

    A quote that is not closed, or goes on behind its end, would take the lines behind it into a caption: such a row
    has no values, and reading goes on at the next line.
    """
    first = text.lstrip().partition("\n")[0]
    mark = "\t" if suffix == ".tsv" else max(",;\t", key=first.count)  # a spreadsheet's own depends on its country
    names: list[str] = []
    for number, row in _cells(text, mark):
        if not names and row:
            names = [name.strip().casefold() for name in row]
            if set(names) & set(NAME_KEYS) or not names[0].endswith(PICTURES):
                continue
            names = [NAME_KEYS[0], TEXT_KEYS[0]]
        if len(row) > len(names) and names[-1] in TEXT_KEYS:  # commas in a caption without quotes
            row = [*row[:len(names) - 1], f"{mark} ".join(row[len(names) - 1:])]
        whole = 0 < len(row) <= len(names)
        yield number, dict(zip(names, row, strict=False)) if whole else dict.fromkeys(names)


def _cells(text: str, mark: str) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells to the last that is not empty) of each row; [] where they cannot be told apart.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, skipinitialspace=True, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield number, []
            continue
        while row and not row[-1].strip():
            row.pop()
        if row:
            yield number, row


def _line(row: dict[str, Any]) -> Line | None:
    name = _first(row, NAME_KEYS)
    name = name.get("path") if isinstance(name, dict) else name
    if not isinstance(name, str) or not name.strip():
        return None
    value = _first(row, TEXT_KEYS)
    texts = value if isinstance(value, list) else [value]
    if any(not isinstance(text, str) for text in texts if text is not None):
        return None
    if isinstance(value, list) and value is row.get("tags"):  # a caption in parts
        texts = [", ".join(filter(None, texts))]
    plain = (" ".join(text.split())[:MAX_LINE] for text in texts if text)
    return Line(name.strip(), tuple(dict.fromkeys(text for text in plain if text)))


def _first(row: dict[str, Any], keys: Sequence[str]) -> Any:
    return next((row[key] for key in keys if row.get(key) not in (None, "")), None)


def _match_one(table: Table, above: int, pictures: Sequence[tuple[Path, Parts]]) -> tuple[dict[Path, Parts], list[str]]:
    """(path -> captions, names that no picture has) of one table and the pictures in its folder and below.

    above: how many of the pictures' parts are the table's own folder. A name may say more folders than there are (of
    where the table was made) or those above the table's own. It is taken for a picture only where no other name of the
    table could mean the same one.
    """
    exact: dict[Parts, set[Path]] = {}
    near: dict[Parts, set[Path]] = {}
    for path, parts in pictures:
        for spelled in (parts, (*parts[:-1], parts[-1].rpartition(".")[0])):  # some tables leave the suffix out
            near.setdefault(spelled[above:], set()).add(path)
            for begin in range(above + 1):
                exact.setdefault(spelled[begin:], set()).add(path)
    captions: dict[Path, list[str]] = {}
    open_names: dict[Path, dict[Parts, list[Line]]] = {}
    lost = []
    for line in table.lines:
        name = _parts(line.name)
        choices = near.get(name) or exact.get(name)
        if choices is not None and len(choices) == 1:
            captions.setdefault(next(iter(choices)), []).extend(line.texts)
            continue
        tails = [] if choices else [name[begin:] for begin in range(1, len(name)) if name[begin:] in near]
        if not tails or len(near[tails[0]]) > 1:
            lost.append(line.name)
        else:
            open_names.setdefault(next(iter(near[tails[0]])), {}).setdefault(name, []).append(line)
    for path, names in open_names.items():
        lines = [line for each in names.values() for line in each]
        if path in captions or len(names) > 1:
            lost += [line.name for line in lines]
        else:
            captions[path] = [text for line in lines for text in line.texts]
    return {path: tuple(dict.fromkeys(texts)) for path, texts in captions.items()}, lost


def _parts(name: str) -> Parts:
    """A path's parts as they are compared, without a drive, . and the beginning /; Windows writes it with \\."""
    parts = fold_name(name).replace("\\", "/").split("/")
    return tuple(part for part in parts if part not in ("", ".") and not part.endswith(":"))
