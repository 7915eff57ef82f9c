"""Captions: read beside the pictures, and made into the texts that a run shows the model. Imports no torch."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path, PurePosixPath

from ..request import TrainLora
from .decoding import decode
from .listing import TEXTS, File, fold_name

SHUFFLES = 8  # orders of a caption's tags that a run uses: so few that all of them can be kept embedded
MAX_CAPTION_BYTES = 64 * 1024
MAX_CAPTIONS = 16  # of one picture, for the same reason
NO_CAPTION = "no caption"
CLASS_FOLDER = re.compile(r"([1-9][0-9]{0,2})_(.*\S.*)")  # four digits are a year, and 01 is a number in a row


@dataclass(frozen=True)
class Caption:
    """texts: without line breaks; of several, one is shown at a time. reasons: what surprises. mended: whether
    something had to be changed, or is not used. has_file: whether a text file is there for it."""

    texts: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    mended: bool = False
    has_file: bool = False


class Captions:
    """The text files of a dataset, found by the pictures' stems."""

    def __init__(self, files: Sequence[File], encoding: str):
        self._encoding = encoding
        self._by_stem: dict[tuple[Path, str], list[File]] = {}
        self._readers: dict[Path, str] = {}
        for file in files:
            self._by_stem.setdefault(_key(file, file.path.stem), []).append(file)

    def read(self, picture: File, from_tables: Sequence[tuple[File, tuple[str, ...]]]) -> Caption:
        """The caption of a picture: of the text file of its stem, else what a table says of it, the first of them."""
        files = self._files(picture)
        rows = [(table, texts) for table, texts in from_tables if texts]
        sources = [file.name for file in files] + [table.name for table, _ in rows]
        unused = tuple(f"{name[:80]} is not read: there is {sources[0][:80]}" for name in sources[1:])
        if files:
            found = self._read(files[0].path)
            first = self._readers.setdefault(files[0].path, picture.name)
            unused += (f"shares its caption with {first[:80]}",) if first != picture.name else ()
        elif rows:
            found = _limit_count(rows[0][1])
        else:
            return Caption(reasons=(NO_CAPTION,))
        return Caption(found.texts, found.reasons + unused, found.mended, bool(files))

    def others(self, pictures: Iterable[File]) -> list[File]:
        """The text files of which no picture of these has the stem."""
        used = {file.path for picture in pictures for file in self._files(picture)}
        return [file for files in self._by_stem.values() for file in files if file.path not in used]

    def _files(self, picture: File) -> list[File]:
        """The text files of a picture: of exactly its stem, else of one that only differs in how it is written.

        Some tools write NAME.png.txt.
        """
        stem, name = picture.path.stem, picture.path.name
        found = [file for each in (stem, name) for file in self._by_stem.get(_key(picture, each), ())]
        exact = [file for file in found if file.path.stem in (stem, name)]
        return sorted(exact or found, key=lambda file: (file.path.stem != stem, file.path.suffix not in TEXTS,
                                                        TEXTS.index(file.suffix), file.name))

    def _read(self, file: Path) -> Caption:
        try:
            with file.open("rb") as opened:
                data = opened.read(MAX_CAPTION_BYTES + 1)
        except OSError:
            return Caption((), ("the caption cannot be read",), mended=True)
        reasons = []
        if len(data) > MAX_CAPTION_BYTES:
            data = data[:MAX_CAPTION_BYTES].rpartition(b"\n")[0] or data[:MAX_CAPTION_BYTES].rpartition(b" ")[0]
            reasons.append(f"the caption has more than {MAX_CAPTION_BYTES // 1024} kB; the rest is not read")
        text, note = decode(data, self._encoding)
        if text is None:
            return Caption((), (*reasons, f"the caption cannot be read: {note}"), mended=True)
        found = _limit_count([" ".join(line.split()) for line in text.replace("\0", " ").splitlines()])
        reasons += [f"the caption is {note}"] if note else []
        if not found.texts:
            return Caption((), (*reasons, "the caption is empty"), bool(reasons))
        return Caption(found.texts, (*reasons, *found.reasons), bool(reasons) or found.mended)


def class_words(place: PurePosixPath) -> tuple[int, str] | None:
    """(repeats, words) that kohya's trainer reads out of a folder's name such as "10_sks dog"; None for another one."""
    for folder in reversed(place.parent.parts):
        found = CLASS_FOLDER.fullmatch(folder)
        if found:
            return int(found[1]), found[2].strip()
    return None


def _key(file: File, stem: str) -> tuple[Path, str]:
    return file.path.parent, fold_name(stem)


def _limit_count(lines: Iterable[str]) -> Caption:
    """The captions that lines are, no more than may be kept embedded."""
    texts = tuple(dict.fromkeys(line for line in lines if line))
    if len(texts) > MAX_CAPTIONS:
        note = f"{len(texts)} captions; the first {MAX_CAPTIONS} are used"
        return Caption(texts[:MAX_CAPTIONS], (note,), mended=True)
    return Caption(texts, (f"{len(texts)} captions; one of them is shown at a time",) if len(texts) > 1 else ())


def tags_of(text: str) -> list[str]:
    """The comma-separated tags of captions, one a line."""
    return [tag.strip() for line in text.split("\n") for tag in line.split(",") if tag.strip()]


def histogram(texts: Iterable[str]) -> list[tuple[str, int]]:
    """How many captions have each tag, the most frequent first."""
    found = Counter(tag for text in texts for tag in dict.fromkeys(tags_of(text)))
    return sorted(found.items(), key=lambda one: (-one[1], one[0]))


def replaced(text: str, find: str, put: str) -> str:
    """Captions, one a line, with words replaced; a tag that nothing is left of goes with its comma."""
    return "\n".join(", ".join(tags_of(line.replace(find, put))) if find in line else line
                     for line in text.split("\n"))


def all_variants(texts: Sequence[str], config: TrainLora, salt: str) -> tuple[str, ...]:
    """The variants of several captions; each caption has as many of them as the others, so that all come as often."""
    groups = [variants(text, config, salt) for text in texts or ("",)]
    most = max(map(len, groups))
    return tuple(text for group in groups for text in islice(cycle(group), most))


def variants(text: str, config: TrainLora, salt: str) -> tuple[str, ...]:
    """Every text that a run may show for a caption, the empty one of caption dropout aside.

    One, or with shuffling up to SHUFFLES orders of its comma-separated tags, fixed by seed and `salt` (the picture).
    """
    tags = tags_of(text)
    if not config.shuffle or len(tags) - config.keep_first < 2:
        return (_dressed(text, config),)
    orders = []
    for number in range(SHUFFLES):
        loose = tags[config.keep_first :]
        random.Random(f"{config.seed} {salt} {number}").shuffle(loose)
        orders.append(_dressed(", ".join([*tags[: config.keep_first], *loose]), config))
    return tuple(dict.fromkeys(orders))


def _dressed(text: str, config: TrainLora) -> str:
    body = f"{config.prefix}{text}{config.suffix}".strip()
    return ", ".join(part for part in (config.trigger.strip(), body) if part)
