"""Answers what the lab's pages ask: pictures and tables, saved and told as events."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from importlib import import_module
from pathlib import Path

from .. import metadata
from ..errors import StudioError
from ..events import Event, Pictured
from ..requests import Txt2Img, make
from .context import Made, Scene
from .filmstrip import Animation
from .page_requests import CHECKPOINT, LabJob

SHARED = ("prompt", "sampler", "steps", "guidance_scale")  # what Text to image calls the same and can take over


def run(job: LabJob, scene: Scene, folder: Path, embed: bool = True) -> Iterator[Event]:
    """Yield a job's events. Pictures go to folder/YYYY-MM-DD. Raises Cancelled after Stop.

    embed: whether a picture's file says how it was made.
    """
    answer = import_module(f".pages.{job.page}", __package__).answer
    with closing(answer(job.request, scene)) as items:  # what was attached to the model is removed at once
        for item in items:
            if isinstance(item, Made):
                text = text_of(job, item.caption) if embed else None
                item = Pictured(_save(item, folder, text, job.page), item.caption)
            yield item


def text_of(job: LabJob, caption: str) -> str:
    """Say how a picture was made, as every picture of the studio does; what only the lab knows begins with "Lab"."""
    given = job.request.model_dump(exclude={"token"})
    draws = job.model and "prompt" in given and given.get("subject", CHECKPOINT) == CHECKPOINT
    known = {"seed": given.pop("seed"), "model": job.model or None}
    known |= {name: given.pop(name) for name in SHARED if draws and name in given}
    own = {f"Lab {name.replace('_', ' ')}": value for name, value in given.items() if value not in ("", None)}
    return metadata.infotext(make(Txt2Img, **known), extra={"Lab page": job.page, "Lab picture": caption, **own})


def _save(made: Made, folder: Path, text: str | None, page: str) -> Path:
    now, content = datetime.now(), made.content
    day = folder / f"{now:%Y-%m-%d}"
    form = content.form if isinstance(content, Animation) else "png"
    path = day / f"{now:%H%M%S}-{page}-{secrets.token_hex(2)}.{form}"
    try:
        day.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Animation):
            metadata.save_animation(content.pictures, content.durations_ms, path, text)
        else:
            metadata.save(content, path, text)
    except OSError as error:
        raise StudioError(f"The picture cannot be saved: {error.strerror or 'the disk refuses it'}.") from None
    return path
