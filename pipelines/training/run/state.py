"""Exact states of a run on disk: written whole or not at all, read back and checked, old ones removed afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ...errors import StudioError
from ..numbers.tensors import sync_folder, write_tensors

NAME = re.compile(r"step-(\d{7,})")
LEAF = "$tensor"  # stands in the JSON where a tensor stood


def flatten(tree: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """Part nested dicts and lists into what JSON can hold and the tensors, by number."""
    tensors: dict[str, torch.Tensor] = {}
    return _without_tensors(tree, tensors), tensors


def _without_tensors(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Put what stands for tensors in their place, and the tensors among `tensors`.

    No function inside `flatten`: one that calls itself is garbage that keeps the tensors until it is looked for.
    """
    if isinstance(value, torch.Tensor):
        tensors[str(len(tensors))] = value
        return {LEAF: str(len(tensors) - 1)}
    if isinstance(value, dict):
        return {"$dict": [[key, _without_tensors(inner, tensors)] for key, inner in value.items()]}  # keys: numbers too
    if isinstance(value, list | tuple):
        return [_without_tensors(inner, tensors) for inner in value]
    return value


def unflatten(table: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Put parted dicts and lists together again; tuples come back as lists."""
    if isinstance(table, dict):
        if LEAF in table:
            return tensors[table[LEAF]]
        return {key: unflatten(inner, tensors) for key, inner in table["$dict"]}
    if isinstance(table, list):
        return [unflatten(inner, tensors) for inner in table]
    return table


class Checkpoints:
    """Folders step-0000123 under one folder, each with state.safetensors, state.json and the usable weights."""

    def __init__(self, folder: Path, keep_last: int):
        self._folder, self._keep_last = folder, keep_last

    def steps(self) -> list[int]:
        """Steps of which there is a state, oldest first."""
        if not self._folder.is_dir():
            return []
        return sorted(int(match[1]) for path in self._folder.iterdir() if (match := NAME.fullmatch(path.name)))

    def path(self, step: int) -> Path:
        return self._folder / f"step-{step:07d}"

    def save(self, step: int, tree: Any, export: Callable[[Path], Any] | None = None, keep: Iterable[int] = ()) -> Path:
        """Write a state, then remove old ones but the newest `keep_last` and those named. Raises OSError.

        export: writes the usable weights into the folder it is given.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        half = self._folder / f".step-{step}.{os.getpid()}.new"
        target = self.path(step)
        try:
            half.mkdir()
            table, tensors = flatten(tree)
            digest = write_tensors(half / "state.safetensors", tensors)
            with (half / "state.json").open("w", encoding="utf-8") as file:
                json.dump({"step": step, "sha256": digest, "tree": table}, file)
                file.flush()
                os.fsync(file.fileno())
            if export is not None:
                export(half)
            sync_folder(half)
            if target.exists():  # saved before at this step, by a run that then went back
                old = target.with_name(f".old-{target.name}")
                shutil.rmtree(old, ignore_errors=True)
                target.rename(old)
                half.rename(target)
                shutil.rmtree(old, ignore_errors=True)
            else:
                half.rename(target)
            sync_folder(self._folder)
        finally:
            shutil.rmtree(half, ignore_errors=True)
        self._clear(set(keep) | {step})
        return target

    def load(self, step: int, device: torch.device | str = "cpu") -> Any:
        """Read a state. Raises StudioError for one that is damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path(step)
        try:
            known = json.loads((path / "state.json").read_text("utf-8"))
            with (path / "state.safetensors").open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != known["sha256"]:
                raise ValueError("the checksum differs")
            return unflatten(known["tree"], load_file(path / "state.safetensors", device=str(device)))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise StudioError(f"{path.name}: this saved state is damaged.") from error

    def newest(self, device: torch.device | str = "cpu") -> tuple[int, Any] | None:
        """(step, state) of the newest one that is whole, or None."""
        for step in reversed(self.steps()):
            try:
                return step, self.load(step, device)
            except StudioError:
                continue
        return None

    def _clear(self, keep: set[int]) -> None:
        steps = self.steps()
        for step in set(steps) - keep - set(steps[-self._keep_last :]):
            with suppress(OSError):
                shutil.rmtree(self.path(step))
