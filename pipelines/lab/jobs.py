"""Answers what the lab's pages ask: pictures and tables, saved and told as events."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from importlib import import_module
from pathlib import Path

from PIL.PngImagePlugin import PngInfo

from ..errors import StudioError
from ..events import Event, Pictured
from .pages import LabJob
from .scene import Made, Scene

TEXT_KEY = "atelier-lab"


def run(job: LabJob, scene: Scene, folder: Path) -> Iterator[Event]:
    """Yield a job's events. Pictures go to folder/YYYY-MM-DD. Raises Cancelled after Stop."""
    answer = import_module(f".answers.{job.page}", __package__).answer
    with closing(answer(job.request, scene)) as items:  # what was attached to the model is removed at once
        for item in items:
            yield Pictured(_save(item, folder, job), item.caption) if isinstance(item, Made) else item


def _save(made: Made, folder: Path, job: LabJob) -> Path:
    """A PNG says in its text under TEXT_KEY how it was made; animations have no place for that."""
    now = datetime.now()
    day = folder / f"{now:%Y-%m-%d}"
    name = f"{now:%H%M%S}-{job.page}-{secrets.token_hex(2)}"
    try:
        day.mkdir(parents=True, exist_ok=True)
        if isinstance(made.content, bytes):
            path = day / f"{name}.{'gif' if made.content.startswith(b'GIF8') else 'webp'}"
            path.write_bytes(made.content)
        else:
            path = day / f"{name}.png"
            text = PngInfo()
            asked = {"page": job.page, "model": job.model, **job.request.model_dump(exclude={"token"})}
            text.add_text(TEXT_KEY, json.dumps({**asked, "caption": made.caption}))
            made.content.save(path, pnginfo=text)
    except OSError as error:
        raise StudioError(f"The picture cannot be saved: {error.strerror or 'the disk refuses it'}.") from None
    return path
