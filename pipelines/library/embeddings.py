"""Textual inversion (Gal et al. 2022, arXiv:2208.01618): embedding files -> vectors that stand for a word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from .embedding_layout import layout_of
from .entry import LibraryEntry
from .read.card import refuse_pickle
from .read.headers import read_header

if TYPE_CHECKING:
    from torch import Tensor


def read(path: Path) -> dict[str, Tensor]:
    """Read a file: {text encoder's component name: vectors (n, width), float32}, of all its words one after another.

    Raises ModelError naming file and reason.
    """
    import torch

    known = list(read_words(path).values())
    return {encoder: torch.cat([sides[encoder] for sides in known]) for encoder in known[0]}


def read_words(path: Path) -> dict[str, dict[str, Tensor]]:
    """Read a file: {word: {text encoder's component name: vectors (n, width), float32}}; "" is the file's own name.

    Raises ModelError naming file and reason.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    refuse_pickle(path)
    layout = layout_of(read_header(path))
    if layout is None:
        raise ModelError(f"{path.name[:80]} cannot be used: it is no embedding.")
    try:
        with safe_open(path, framework="pt") as file:
            known = {word: {encoder: torch.atleast_2d(file.get_tensor(name).float()) for encoder, name in sides.items()}
                     for word, sides in layout.words.items()}
    except (OSError, SafetensorError):
        raise ModelError(f"{path.name[:80]} cannot be used: it changed while it was read.") from None
    if not all(torch.isfinite(side).all() for sides in known.values() for side in sides.values()):
        raise ModelError(f"{path.name[:80]} cannot be used: it holds numbers that are not finite.")
    if any(len({len(side) for side in sides.values()}) > 1 for sides in known.values()):
        raise ModelError(f"{path.name[:80]} cannot be used: its two halves differ in length.")
    return known


def vectors(entries: Iterable[LibraryEntry], texts: Iterable[str],
            widths: Mapping[str, int]) -> tuple[dict[str, dict[str, Tensor]], tuple[str, ...]]:
    """Read the embeddings that are named in texts: ({word: as `read`}, sentences about what is not used).

    widths: of the token embeddings of the model's text encoders, by component name.
    """
    found: dict[str, dict[str, Tensor]] = {}
    told: list[str] = []
    texts = tuple(texts)
    for entry in named(entries, texts):
        try:
            if entry.fault:
                raise ModelError(entry.fault)
            whole, alone = read(entry.path), read_words(entry.path)
            for encoder, side in whole.items():
                if widths.get(encoder) != side.shape[1]:
                    raise ModelError(f"{entry.path.name[:80]} cannot be used with this model: its vectors have "
                                     f"{side.shape[1]} numbers, and the model reads {widths.get(encoder, 'none')}.")
            found |= {word: alone.get(word, whole) for word in words_of(entry) if _stands_in(word, texts)}
            if unused := entry.facts.get("unused"):
                told.append(f"{entry.name}: its vectors {', '.join(unused)[:100]} are not used; they are for a text "
                            "encoder's output, or for one that is not here.")
        except ModelError as fault:
            told.append(f"{fault} Its name was read as words.")
    return found, tuple(told)


def words_of(entry: LibraryEntry) -> dict[str, int]:
    """The words that an embedding stands for -> vectors of each: its name, and what diffusers calls its tokens.

    Of several tokens the name means all of them, and so do they when they are written without blanks.
    """
    own = entry.facts.get("words", {})
    whole = entry.facts.get("vectors", 0)
    return {entry.name: whole, **({"".join(own): whole} if len(own) > 1 else {}), **own}


def named(entries: Iterable[LibraryEntry], texts: Iterable[str]) -> list[LibraryEntry]:
    """The embeddings one of whose words stands in one of the texts; small and capital letters are one."""
    texts = tuple(texts)
    return [entry for entry in entries if entry.kind == "embedding"
            and any(_stands_in(word, texts) for word in words_of(entry))]


def _stands_in(word: str, texts: Iterable[str]) -> bool:
    text, word = "\n".join(texts).casefold(), word.casefold()
    before, after = (r"(?<!\w)" if word[:1].isalnum() else "", r"(?!\w)" if word[-1:].isalnum() else "")
    return word in text and re.search(f"{before}{re.escape(word)}{after}", text) is not None
