"""A place -> the files and folders in it that may be models. Nothing is opened."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .folders import Place

MAX_DEPTH = 6
LEFT_OUT = ("venv", "node_modules", "site-packages", "__pycache__")
WEIGHTS = ".safetensors"
PICTURES = (".preview.png", ".preview.jpg", ".preview.jpeg", ".preview.webp", ".png", ".jpg", ".jpeg", ".webp")
NOTES = (".json", ".civitai.info")
# .pt and .bin may be anything; in folders of these names they are models of the kind, to be named and refused. What is
# nothing of the kind there is worth a word, too.
KIND_FOLDERS = {"embeddings": "embedding", "embedding": "embedding", "textual_inversion": "embedding",
                "lora": "lora", "loras": "lora", "lycoris": "lora", "vae": "vae"}
PICKLES = (".pt", ".pth", ".bin")


@dataclass(frozen=True)
class Item:
    """A file, or a folder in diffusers' layout.

    stamp: changes when the thing, its config or its notes do. size_bytes, modified_s: of the file, of a folder all
    together and the newest. preview, notes: what lies beside it. folder_kind: what lies in a folder of that name.
    """

    path: Path
    place: Place
    stamp: str
    size_bytes: int
    modified_s: float
    preview: Path | None = None
    notes: tuple[Path, ...] = ()
    folder_kind: str = ""
    is_folder: bool = False


def walk(place: Place) -> Iterator[Item]:
    """Find what may be a model, files before folders, each in order of name."""
    if place.folder.is_dir():
        yield from _folder(place, str(place.folder), 0)
        return
    try:
        with os.scandir(place.folder.parent) as listed:
            beside = {entry.name: entry for entry in listed}
        yield from _file(place, beside[place.folder.name], beside, _kind(place, place.folder.parent))
    except (OSError, KeyError):
        return


def _folder(place: Place, folder: str, depth: int) -> Iterator[Item]:
    try:
        with os.scandir(folder) as listed:
            beside = {entry.name: entry for entry in sorted(listed, key=lambda entry: entry.name)}
    except OSError:
        return
    if "model_index.json" in beside:
        yield from _diffusers(place, Path(folder))
        return
    below, kind = [], _kind(place, Path(folder))
    for entry in beside.values():
        try:
            if entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and entry.name not in LEFT_OUT:
                    below.append(entry.path)
            else:
                yield from _file(place, entry, beside, kind)
        except OSError:  # it went away while we looked
            continue
    if depth < MAX_DEPTH:
        for path in below:
            yield from _folder(place, path, depth + 1)


def _kind(place: Place, folder: Path) -> str:
    """What the names of a folder and of those above it say that lies in it; "" for no kind in particular."""
    above = (place.root.name, place.folder.name, *folder.relative_to(place.root).parts)
    return next((KIND_FOLDERS[part.lower()] for part in reversed(above) if part.lower() in KIND_FOLDERS), "")


def _file(place: Place, entry: os.DirEntry[str], beside: dict[str, os.DirEntry[str]], kind: str) -> Iterator[Item]:
    stem, suffix = os.path.splitext(entry.name)
    suffix = suffix.lower()
    if suffix not in (WEIGHTS, ".ckpt", *PICKLES) or (suffix != WEIGHTS and stem + WEIGHTS in beside):
        return  # a converted twin stands for the pickle
    if suffix == ".ckpt":
        kind = "checkpoint"
    elif suffix != WEIGHTS and not kind:
        return
    if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(place.root):
        return
    facts = entry.stat()
    notes = [beside[stem + ending] for ending in NOTES if stem + ending in beside]
    told = [facts, *(note.stat() for note in (*notes, *([beside["config.json"]] if "config.json" in beside else [])))]
    preview = next((beside[stem + ending] for ending in PICTURES if stem + ending in beside), None)
    inside = [one for one in (*notes, preview) if one and (
        not one.is_symlink() or Path(one.path).resolve().is_relative_to(place.root))]
    yield Item(Path(entry.path), place, " ".join(f"{one.st_size} {one.st_mtime_ns}" for one in told), facts.st_size,
               facts.st_mtime, Path(preview.path) if preview in inside else None,
               tuple(Path(note.path) for note in notes if note in inside), kind)


def _diffusers(place: Place, folder: Path) -> Iterator[Item]:
    """A folder in diffusers' layout, unless a link in it leads out of the place."""
    size, newest, digest = 0, 0, hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        try:
            if not path.resolve().is_relative_to(place.root):
                return
            facts = path.stat()
        except OSError:
            return
        if path.is_file():
            digest.update(f"{path.relative_to(folder)} {facts.st_size} {facts.st_mtime_ns}\n".encode())
            size, newest = size + facts.st_size, max(newest, facts.st_mtime)
    pictures = (folder / f"preview{ending}" for ending in PICTURES)
    yield Item(folder, place, digest.hexdigest()[:16], size, newest,
               next((picture for picture in pictures if picture.is_file()), None), is_folder=True)
