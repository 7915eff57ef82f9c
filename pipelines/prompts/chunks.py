"""From weighted text to chunks of tokens: a text encoder reads 75 at a time.

The rules are AUTOMATIC1111's: a chunk that overflows ends after its last comma when that is near, so that no phrase is
torn apart, and BREAK ends one at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .schedule import Sections

CHUNK = 75  # tokens of one chunk, without the two marks
BACK_OFF = 20  # a comma this near to the overflow ends the chunk
MAX_CHUNKS = 20
COMMA = ",</w>"

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Chunk:
    """Tokens that are encoded together. vectors: (place, name) where an embedding's vectors replace tokens."""

    ids: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    vectors: tuple[tuple[int, str], ...] = ()


@dataclass
class _Open:
    """The chunk being filled."""

    ids: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    vectors: list[tuple[int, str]] = field(default_factory=list)
    comma: int | None = None

    def split(self, at: int) -> _Open:
        """Keep what lies before `at` and return the rest."""
        rest = _Open(self.ids[at:], self.weights[at:], [(i - at, name) for i, name in self.vectors if i >= at])
        del self.ids[at:], self.weights[at:]
        self.vectors = [(i, name) for i, name in self.vectors if i < at]
        return rest

    def closed(self) -> Chunk:
        return Chunk(tuple(self.ids), tuple(self.weights), tuple(self.vectors))


def chunked(sections: Sections, encode: Encode, comma: int | None, *, size: int = CHUNK,
            names: Mapping[str, int] | None = None) -> tuple[Chunk, ...]:
    """Cut text into chunks, at least one.

    encode: text -> token ids without marks. comma: id of the token "," at a word's end. names: embeddings that stand
    for their bare name, and how many vectors each has.
    """
    known = _known(names or {}, encode, size)
    chunks: list[Chunk] = []
    filling = _Open()

    def close(rest: _Open | None = None) -> None:
        nonlocal filling
        chunks.append(filling.closed())
        filling = rest or _Open()

    for number, section in enumerate(sections):
        if number:
            close()
        for piece in section:
            ids = encode(piece.text)
            place = 0
            while place < len(ids):
                if ids[place] == comma:
                    filling.comma = len(filling.ids)
                elif len(filling.ids) == size and filling.comma is not None and size - filling.comma <= BACK_OFF:
                    close(filling.split(filling.comma + 1))
                if len(filling.ids) == size:
                    close()
                found = _found(known, ids, place)
                if found is None:
                    filling.ids.append(ids[place])
                    filling.weights.append(piece.weight)
                    place += 1
                    continue
                name, length, count = found
                if len(filling.ids) + count > size:
                    close()
                filling.vectors.append((len(filling.ids), name))
                filling.ids += [0] * count
                filling.weights += [piece.weight] * count
                place += length
    if filling.ids or not chunks:
        close()
    return tuple(chunks)


def _known(names: Mapping[str, int], encode: Encode, size: int) -> dict[int, list[tuple[tuple[int, ...], str, int]]]:
    """First token -> (all tokens, name, vectors), the longest name first."""
    known: dict[int, list[tuple[tuple[int, ...], str, int]]] = {}
    for name, count in names.items():
        ids = tuple(encode(name))
        if ids and 0 < count <= size:
            known.setdefault(ids[0], []).append((ids, name, count))
    for same in known.values():
        same.sort(key=lambda entry: -len(entry[0]))
    return known


def _found(known: Mapping[int, list], ids: Sequence[int], place: int) -> tuple[str, int, int] | None:
    for wanted, name, count in known.get(ids[place], ()):
        if tuple(ids[place:place + len(wanted)]) == wanted:
            return name, len(wanted), count
    return None
