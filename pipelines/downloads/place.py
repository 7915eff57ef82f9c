"""Finished files -> the folder of their kind. The content decides the kind, and a name from outside is made plain."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path, PurePosixPath

from ..errors import ModelError
from ..library.folders import Place
from ..library.read.card import read_folder
from ..library.recognise import recognise
from ..library.walk import walk
from .sources import SETTINGS, Plan

FOLDERS = {"checkpoint": "models/checkpoints", "lora": "loras", "vae": "models/vae", "embedding": "models/embeddings"}
MAX_NAME = 100
TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def put(plan: Plan, staging: Path, data_dir: Path) -> tuple[str, str]:
    """Move what was fetched from `staging` into the data folder: (kind, name). Raises ModelError for no model."""
    if plan.is_folder:
        read_folder(staging, plan.name[:80])
        return "checkpoint", _moved(staging, data_dir / FOLDERS["checkpoint"], plain_name(plan.name), "").name
    source = staging / plain_path(plan.files[0].path)
    kind, fault = _kind(source)
    if fault:
        source.unlink()
        raise ModelError(fault)
    moved = _moved(source, data_dir / FOLDERS[kind], plain_name(plan.name), ".safetensors")
    for file in plan.files[1:]:
        if PurePosixPath(file.path).name == SETTINGS:
            os.rename(staging / plain_path(file.path), moved.with_name(f"{moved.stem}.{SETTINGS}"))
    if plan.notes:
        notes = moved.with_suffix(".civitai.info")
        notes.write_text(json.dumps(plan.notes), encoding="utf-8")
    return kind, moved.stem


def plain_path(text: str) -> Path:
    """A relative path without a way out of its folder."""
    return Path(*(plain_name(part) for part in re.split(r"[/\\]", text)[-3:]))


def plain_name(text: str) -> str:
    """A name that every system takes: no separators, no control characters, no leading dot, not too long."""
    name = re.sub(r"[^\w .()+,@=-]", "_", text).strip(" .")
    stem, dot, suffix = name.rpartition(".")
    name = f"{stem[:MAX_NAME]}.{suffix[:20]}" if dot and stem else name[:MAX_NAME]
    return f"_{name}" if RESERVED.fullmatch(name) or not name else name


def _kind(path: Path) -> tuple[str, str]:
    items = list(walk(Place(path, path.parent)))
    if not items:
        return "", f"{path.name[:80]} was not kept: it is no safetensors file."
    finding = recognise(items[0])
    if not finding.kind:
        return "", f"{path.name[:80]} was not kept: it is no checkpoint, LoRA, autoencoder or embedding."
    return finding.kind, finding.fault


def _moved(source: Path, folder: Path, name: str, suffix: str) -> Path:
    """Move to a name that is free, and that no other process takes meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    names = (f"{name}{f' ({i})' if i else ''}{suffix}" for i in range(1000))
    for target in (folder / one for one in names if not (folder / one).exists()):
        try:
            if source.is_file():
                target.open("xb").close()  # the name is ours before anything takes its place
            os.replace(source, target)  # a folder with something in it is not replaced
            return target
        except OSError as error:
            if error.errno not in TAKEN:
                raise
    raise ModelError(f"{name[:80]}: there are a thousand of this name already.")
