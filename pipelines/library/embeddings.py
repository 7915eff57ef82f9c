"""Textual inversion (Gal et al. 2022, arXiv:2208.01618): embedding files -> vectors that stand for a word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from .entry import LibraryEntry
from .read.card import refuse_pickle
from .read.headers import read_header
from .recognise import embedding_sides

if TYPE_CHECKING:
    from torch import Tensor


def read(path: Path) -> dict[str, Tensor]:
    """Read a file: {text encoder's component name: vectors (n, width), float32}.

    AUTOMATIC1111's (emb_params), diffusers' (one tensor under its token) and XL's (clip_l, clip_g). Raises ModelError
    naming file and reason.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    refuse_pickle(path)
    sides = embedding_sides(read_header(path))
    if not sides:
        raise ModelError(f"{path.name[:80]} cannot be used: it is no embedding.")
    try:
        with safe_open(path, framework="pt") as file:
            vectors = {encoder: torch.atleast_2d(file.get_tensor(name).float()) for name, encoder in sides.items()}
    except (OSError, SafetensorError):
        raise ModelError(f"{path.name[:80]} cannot be used: it changed while it was read.") from None
    if not all(torch.isfinite(side).all() for side in vectors.values()):
        raise ModelError(f"{path.name[:80]} cannot be used: it holds numbers that are not finite.")
    if len({len(side) for side in vectors.values()}) > 1:
        raise ModelError(f"{path.name[:80]} cannot be used: its two halves differ in length.")
    return vectors


def vectors(entries: Iterable[LibraryEntry], texts: Iterable[str],
            widths: Mapping[str, int]) -> tuple[dict[str, dict[str, Tensor]], tuple[str, ...]]:
    """Read the embeddings that are named in texts: ({name: as `read`}, why one that is named is not used).

    widths: of the token embeddings of the model's text encoders, by component name.
    """
    found: dict[str, dict[str, Tensor]] = {}
    faults: list[str] = []
    for entry in named(entries, texts):
        try:
            if entry.fault:
                raise ModelError(entry.fault)
            sides = read(entry.path)
            for encoder, side in sides.items():
                if widths.get(encoder) != side.shape[1]:
                    raise ModelError(f"{entry.path.name[:80]} cannot be used with this model: its vectors have "
                                     f"{side.shape[1]} numbers, and the model reads {widths.get(encoder, 'none')}.")
            found[entry.name] = sides
        except ModelError as fault:
            faults.append(f"{fault} Its name was read as words.")
    return found, tuple(faults)


def named(entries: Iterable[LibraryEntry], texts: Iterable[str]) -> list[LibraryEntry]:
    """The embeddings whose bare name stands in one of the texts; small and capital letters are one."""
    text = "\n".join(texts).casefold()
    return [entry for entry in entries if entry.kind == "embedding" and (name := entry.name.casefold()) in text
            and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
