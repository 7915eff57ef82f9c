"""The folders in which models lie: our own, those of --model-dir, and inside them what other programs made of theirs.

All of them are only read. A place is looked through to a few levels, and links that lead out of it are left out.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ..settings import Settings

MODEL_FOLDERS = ("models/Stable-diffusion", "models/checkpoints")  # AUTOMATIC1111, Forge, SD.Next; ComfyUI, Fooocus
EXTRA_PATHS = "extra_model_paths.yaml"
EXTRA_KINDS = ("checkpoints", "loras", "vae", "embeddings")
INVOKE_MARKS = ("invokeai.yaml", "databases/invokeai.db")
MAX_EXTRA_BYTES = 1_000_000


@dataclass(frozen=True)
class Place:
    """A folder (or one file) to look through.

    root: links may lead anywhere inside it; names are relative to it. name: that of the one model in it, "" when the
    files name themselves. hub: a copy that the hub's client keeps; half of one is no fault.
    """

    folder: Path
    root: Path
    name: str = ""
    hub: bool = False


def places(settings: Settings, environ: Mapping[str, str] = os.environ) -> tuple[Place, ...]:
    """List where to look, what was trained here first and the person's own folders next."""
    roots = (settings.data_dir / "loras", *settings.model_dir, settings.data_dir / "models")
    found = [place for root in roots if root.is_dir() for place in _layout(root.resolve())]
    # A training run keeps its weights, as they were at some steps, beside states and pictures.
    found += [Place(folder, folder.parents[1]) for folder in sorted((settings.data_dir / "runs").resolve().glob(
        "*/checkpoints"))]
    cache = hub_cache(environ)
    if cache.is_dir():
        found += _hub(cache.resolve())
    found += _asked(settings.model)
    return tuple(dict.fromkeys(found))


def hub_cache(environ: Mapping[str, str]) -> Path:
    """Where the Hugging Face hub's client keeps its downloads (its own rule, without importing it)."""
    if environ.get("HF_HUB_CACHE"):
        return Path(environ["HF_HUB_CACHE"]).expanduser()
    home = environ.get("HF_HOME") or Path(environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def _asked(model: str | None) -> Iterator[Place]:
    """The one file or folder that --model names by its path; it may lie anywhere."""
    path = Path(model).expanduser() if model else None
    if path and (path.is_file() or (path / "model_index.json").is_file()):
        path = path.resolve()
        yield Place(path, path.parent, path.stem if path.is_file() else path.name)


def _layout(root: Path) -> Iterator[Place]:
    """What of a folder to look through, by the program that made it; all of it when no program is recognised."""
    if any(root.glob("models--*--*")):
        yield from _hub(root)
        return
    is_invoke = any((root / mark).is_file() for mark in INVOKE_MARKS)
    if is_invoke:
        yield from _invoke(root)
    if is_invoke or any((root / folder).is_dir() for folder in MODEL_FOLDERS):
        # Beside the models such a program keeps thousands of pictures and libraries.
        yield Place(root / "models", root)
        if (root / "embeddings").is_dir():
            yield Place(root / "embeddings", root)
    elif not (root / EXTRA_PATHS).is_file():
        yield Place(root, root)
    if (root / EXTRA_PATHS).is_file():
        yield from _extra(root / EXTRA_PATHS)


def _hub(cache: Path) -> Iterator[Place]:
    """The copy of each model that the hub's client would use: the one its main branch points to, else the newest."""
    for repository in sorted(cache.glob("models--*--*")):
        try:
            revision = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            revision = ""
        snapshots = [path for path in (repository / "snapshots").glob("*") if path.is_dir()]
        chosen = next((path for path in snapshots if path.name == revision), None)
        chosen = chosen or max(snapshots, key=lambda path: path.stat().st_mtime, default=None)
        if chosen:
            name = repository.name.removeprefix("models--").replace("--", "/", 1)
            yield Place(chosen, repository, name, hub=True)


def _invoke(root: Path) -> Iterator[Place]:
    """InvokeAI's files have ids for names, and may lie anywhere; its database knows both."""
    database = root / "databases" / "invokeai.db"
    try:
        # immutable: not even a lock is taken on a file of another program.
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro&immutable=1", uri=True)) as opened:
            rows = [json.loads(row[0]) for row in opened.execute("SELECT config FROM models ORDER BY id")]
    except (sqlite3.Error, ValueError, TypeError):
        return
    for said in rows:
        path, name = (said.get("path"), said.get("name")) if isinstance(said, dict) else (None, None)
        if isinstance(path, str) and isinstance(name, str):
            full = root / "models" / path  # an absolute one stays what it is
            if full.exists():
                yield Place(full.resolve(), full.resolve().parent, name[:200])


def _extra(file: Path) -> Iterator[Place]:
    """The folders that ComfyUI's extra_model_paths.yaml names: {program: {base_path, kind: lines of folders}}."""
    for section in _read_yaml(file).values():
        if not isinstance(section, dict):
            continue
        base = section.get("base_path")
        base = Path(os.path.expandvars(base)).expanduser() if isinstance(base, str) else Path()
        for kind in EXTRA_KINDS:
            lines = section.get(kind)
            for line in lines.splitlines() if isinstance(lines, str) else ():
                folder = file.parent / base / line.strip()
                if line.strip() and folder.is_dir():
                    yield Place(folder.resolve(), folder.resolve())


def _read_yaml(file: Path) -> dict[object, object]:
    import yaml

    try:
        if file.stat().st_size > MAX_EXTRA_BYTES:
            return {}
        # Without aliases, a few lines of which can stand for gigabytes.
        text = file.read_text(encoding="utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            return {}
        said = yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return said if isinstance(said, dict) else {}
