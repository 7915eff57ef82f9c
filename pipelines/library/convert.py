"""A pickle (.ckpt, .pt, .bin) -> safetensors, in a process of its own that loads weights and nothing else.

A pickle is a small program that builds objects, so opening one can do anything. torch's weights_only reader builds
tensors and plain containers only; that it runs in a child keeps even its faults, and the memory, out of the app.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from .read.card import PICKLES
from .read.headers import read_header

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 3600
RESERVE_BYTES = 1 << 30
# A tensor may say that it repeats a few numbers without end (a stride of 0); the most that honest files repeat is a
# tensor under two or three names.
MAX_GROWTH, SMALL_BYTES = 4, 64 << 20


def convert(path: Path, timeout_s: float = TIMEOUT_S) -> Path:
    """Convert in a child process and return the new file, which lies beside the old one. Raises ModelError."""
    command = [sys.executable, "-m", "pipelines.library", "convert", str(path.absolute())]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False,
                              stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise ModelError(f"{path.name[:80]} was not converted: it took longer than {timeout_s:,.0f} s.") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        known = lines and lines[-1].startswith(path.name[:80])
        raise ModelError(lines[-1] if known else f"{path.name[:80]} was not converted: the converter ended early.")
    return target_of(path)


def target_of(path: Path) -> Path:
    """Where the converted file goes."""
    return path.with_suffix(".safetensors")


def rewrite(path: Path) -> Path:
    """Load a pickle's weights and write them beside it. For the converting process alone. Raises ModelError."""
    target = target_of(path)
    if path.suffix.lower() not in PICKLES:
        raise _fault(path, f"only {', '.join(PICKLES)} files need it")
    if target.exists():
        raise _fault(path, f"there is a {target.name[:80]} already")
    try:
        size = path.stat().st_size
        _need_room(path, size)
        tensors = _tensors(path, _load(path))
        wanted = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if wanted > MAX_GROWTH * size + SMALL_BYTES:
            raise _fault(path, f"its tensors say that they have {wanted:,} bytes, and the file has {size:,}")
        _need_room(path, wanted)
        _write(_laid_out(tensors), target)
    except OSError as error:
        raise _fault(path, error.strerror or "the disk does not answer") from None
    return target


def _need_room(path: Path, wanted: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if wanted + RESERVE_BYTES > free:
        raise _fault(path, f"{(wanted + RESERVE_BYTES) / 1e9:.1f} GB of disk are needed and {free / 1e9:.1f} GB free")


def _load(path: Path) -> object:
    import pickle
    import zipfile

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise _fault(path, f"it holds more than weights ({named[1][:80]}), and opening that could run a "
                               "program") from None
    except (RuntimeError, ValueError, EOFError, KeyError, AttributeError, TypeError, IndexError):
        pass
    raise _fault(path, "it is damaged, or no file of weights")


def _tensors(path: Path, loaded: object) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint, of a LoRA, or of an embedding as AUTOMATIC1111 writes it."""
    import torch

    table = loaded if isinstance(loaded, Mapping) else {}
    if isinstance(table.get("string_to_param"), Mapping):
        known = table["string_to_param"]
        table = {"emb_params": next(iter(known.values()))} if len(known) == 1 else known
    for inner in ("state_dict", "model_state_dict", "params_ema", "params"):
        table = table[inner] if isinstance(table.get(inner), Mapping) else table
    found = {name: value.detach() for name, value in table.items() if isinstance(name, str)
             and isinstance(value, torch.Tensor) and value.layout == torch.strided}
    if not found:
        raise _fault(path, "there are no weights in it")
    return found


def _laid_out(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors with their numbers in order, no two of them on the same bytes: a safetensors file has no names for
    that."""
    found: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, value in tensors.items():
        place = value.untyped_storage().data_ptr()
        found[name] = value.clone().contiguous() if place in seen else value.contiguous()
        seen.add(place)
    return found


def _write(tensors: dict[str, torch.Tensor], target: Path) -> None:
    """Write under another name first, so that the new file is complete or not there."""
    from safetensors.torch import save_file

    half = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        save_file(tensors, half, metadata={"format": "pt"})
        read_header(half)
        with half.open("rb+") as file:
            os.fsync(file.fileno())
        half.rename(target)
    finally:
        half.unlink(missing_ok=True)


def _fault(path: Path, reason: str) -> ModelError:
    return ModelError(f"{path.name[:80]} was not converted: {reason}.")
