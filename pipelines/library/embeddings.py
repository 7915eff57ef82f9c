"""Textual inversion (Gal et al. 2022, arXiv:2208.01618): embedding files -> vectors that stand for a word."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..checkpoints import refuse_pickle
from ..errors import ModelError
from ..headers import read_header
from .entry import LibraryEntry
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


def vectors(entries: Iterable[LibraryEntry],
            family: str) -> tuple[dict[str, dict[str, Tensor]], tuple[ModelError, ...]]:
    """Read the embeddings of a family, and those of which nothing tells: ({name: as `read`}, faults).

    family: key of FAMILIES. What a prompt says by name is looked for here, so damaged files are no obstacle.
    """
    found: dict[str, dict[str, Tensor]] = {}
    faults: list[ModelError] = []
    for entry in entries:
        if entry.kind == "embedding" and not entry.fault and entry.family in ("", family):
            try:
                found[entry.name] = read(entry.path)
            except ModelError as fault:
                faults.append(fault)
    return found, tuple(faults)
