"""What the lab's pages may name: runs, unconditional models, data sets, autoencoders and LoRA files. Imports no torch.

A name from outside is looked up in what was found; it is never joined to a path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from ..errors import RequestError, quoted
from ..library import LibraryEntry
from ..settings import Settings
from .page_requests import BUNDLED_MODEL, BUNDLED_RUN, CHECKPOINT, NEW, NO_FILE, NO_OTHER, OWN_CLASSES
from .requests import LabRequest

BUNDLED = Path(__file__).parent / "bundled"
SETS = ("digits", "emoji", "digits:3", "emoji:food-drink")  # of the lab's own; some by one class
UNCONDITIONAL = ("DDPMPipeline", "DDIMPipeline")
RUN_FILE, ABOUT_FILE = "checkpoint.pt", "run.json"
SHOWN = 40


class DataSets(Protocol):
    """Pictures that were uploaded on the tab Train."""

    def names(self) -> tuple[str, ...]: ...

    def folder(self, name: str) -> Path: ...


class Files(Protocol):
    """The library of this machine."""

    def vaes(self) -> tuple[LibraryEntry, ...]: ...

    def vae(self, name: str) -> LibraryEntry: ...

    def loras(self) -> tuple[LibraryEntry, ...]: ...


class Shelf:
    """Finds what lies on the disk at the moment it is asked."""

    def __init__(self, settings: Settings, datasets: DataSets, files: Files):
        self._settings, self._datasets, self._files = settings, datasets, files
        self._root = settings.data_dir / "lab"

    # Runs of the page Train

    def runs(self) -> tuple[str, ...]:
        """Models that can be drawn from, newest first; the bundled one comes last."""
        return (*self._own_runs(), BUNDLED_RUN)

    def resumable(self) -> tuple[str, ...]:
        """What the page Train can begin or go on with."""
        return (NEW, *self._own_runs())

    def subjects(self) -> tuple[str, ...]:
        """What can be steered."""
        return (CHECKPOINT, *self.runs(), *self.unconditional())

    def judges(self) -> tuple[str, ...]:
        """Whose classes a classifier can know."""
        return (OWN_CLASSES, *self.runs())

    def run(self, name: str) -> Path:
        """Folder of a run. Raises RequestError for an unknown name."""
        if name == BUNDLED_RUN:
            return BUNDLED / "digits"
        return self._root / "runs" / _known(name, self._own_runs(), "Run", "run_name")

    def is_of_latents(self, name: str) -> bool:
        """Whether a run needs the checkpoint whose latents and texts it was trained on."""
        return _json(self.run(name) / ABOUT_FILE).get("recipe") == "latents"

    def needs_checkpoint(self, request: LabRequest) -> bool:
        """Whether a request is about a run that cannot be drawn from without the checkpoint."""
        name = getattr(request, "run_name", NEW)
        return name != NEW and self.is_of_latents(name)

    def new_run(self, data: str) -> Path:
        """A free folder for a run on a data set, such as digits-2."""
        return _unused(self._root / "runs", data)

    def _own_runs(self) -> tuple[str, ...]:
        return _newest((self._root / "runs").glob(f"*/{RUN_FILE}"))

    # Unconditional models

    def unconditional(self) -> tuple[str, ...]:
        """Names of the DDPMPipeline folders: earlier results, those in model folders, and the bundled one."""
        return tuple(self._unconditional())

    def unconditional_folder(self, name: str) -> Path:
        found = self._unconditional()
        return found[_known(name, tuple(found), "Model", "start")]

    def new_unconditional(self, name: str) -> Path:
        """A free folder for a fine-tuned model."""
        return _unused(self._root / "models", name)

    def _unconditional(self) -> dict[str, Path]:
        roots = (self._root / "models", *self._settings.model_dir)
        indices = [path for root in roots for path in sorted(root.glob("*/model_index.json"), key=_age)]
        found = {path.parent.name: path.parent for path in indices if _json(path).get("_class_name") in UNCONDITIONAL}
        return {**found, BUNDLED_MODEL: BUNDLED / "digits-ddpm"}

    def clip_folder(self) -> Path | None:
        """A CLIP checkpoint in a model folder, for guidance by text."""
        configs = (path for root in self._settings.model_dir for path in sorted(root.glob("*/config.json")))
        return next((path.parent for path in configs if "CLIPModel" in (_json(path).get("architectures") or ())), None)

    # Pictures

    def sets(self) -> tuple[str, ...]:
        """Data sets to learn from."""
        return (*SETS, *self._datasets.names())

    def data(self, name: str) -> str:
        """What data.load takes for a data set's name. Raises RequestError for an unknown one."""
        return name if name in SETS else str(self._datasets.folder(name))

    # Files of the library

    def vaes(self) -> tuple[str, ...]:
        """Autoencoders that stand alone."""
        return (NO_OTHER, *(entry.name for entry in self._files.vaes()))

    def vae(self, name: str) -> LibraryEntry:
        """Raises RequestError for an unknown name."""
        return self._files.vae(name)

    def loras(self) -> tuple[str, ...]:
        """LoRA files that can be looked into."""
        return (NO_FILE, *(entry.name for entry in self._files.loras()))

    def lora(self, name: str) -> Path:
        """Raises RequestError for an unknown name."""
        paths = {entry.name: entry.path for entry in self._files.loras()}
        return paths[_known(name, tuple(paths), "LoRA file", "file")]


def _known(name: str, names: tuple[str, ...], title: str, field: str) -> str:
    if name not in names:
        raise RequestError(f"{title}: {quoted(name)} is not here.", field)
    return name


def _unused(root: Path, name: str) -> Path:
    plain = "".join(letter if letter.isalnum() else "-" for letter in name.partition("(")[0].strip())[:SHOWN] or "run"
    return next(path for number in count(1) if not (path := root / f"{plain}-{number}").exists())


def _newest(files: Iterable[Path]) -> tuple[str, ...]:
    return tuple(path.parent.name for path in sorted(files, key=_age, reverse=True))


def _age(path: Path) -> int:
    return path.stat().st_mtime_ns


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):  # absent meanwhile, or damaged: not one that can be used
        return {}
    return found if isinstance(found, dict) else {}
