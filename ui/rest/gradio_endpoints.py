"""The public endpoints: /txt2img, /img2img ... with the request's fields as parameters, and /stop_mine."""

from __future__ import annotations

import inspect
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components.api_component import Api
from gradio.context import get_blocks_context
from gradio.processing_utils import save_bytes_to_cache, save_file_to_cache
from gradio.utils import get_upload_folder
from gradio_client.utils import is_file_obj_with_meta

from pipelines import metadata
from pipelines.errors import RequestError
from pipelines.events import Notice, Record
from pipelines.images.mask import from_upload
from pipelines.queue.job import Job
from pipelines.requests import TASKS, Inpaint, Request, extra_of, fields_of, make

from .. import visitors
from ..wiring import problem

# What callers send as a file, and a request holds as an id.
FILES = (*fields_of(Inpaint, kind="picture"), *fields_of(Inpaint, kind="mask"))


def publish(studio: Any) -> None:
    """Add the endpoints to the current Blocks."""
    asked: dict[Job, str] = {}  # jobs that a caller waits for -> the caller's session, which nobody else knows
    for task, cls in TASKS.items():
        gr.api(_endpoint(studio, task, cls, asked), api_name=task, api_description=inspect.getdoc(cls),
               concurrency_limit=None)
    gr.api(_stop(asked), api_name="stop_mine", concurrency_limit=None)
    for block in get_blocks_context().blocks.values():
        if isinstance(block, Api):
            block.visible = False  # else a page makes something of each parameter, which nobody sees


def _endpoint(studio: Any, task: str, cls: type[Request], asked: dict[Job, str]) -> Callable:
    def call(*args: Any, **kwargs: Any) -> list[dict]:
        values = signature.bind(*args, **kwargs).arguments
        caller, job = values.pop("caller"), None
        try:
            values, changes = _stored(studio, values)
            job = studio.submit(make(cls, **values), visitors.caller())
            asked[job] = caller.session_hash
            records = job.wait().records
        except Exception as error:
            raise gr.Error(problem(error), print_exception=False) from None
        finally:
            asked.pop(job, None)
        notices = [*changes, *(event.text for event in job.events if isinstance(event, Notice))]
        embed = studio.settings.embed_metadata
        return [{"image": _served(record, embed), "infotext": record.infotext, "seed": record.seed, "notices": notices}
                for record in records]

    told_by_gradio = inspect.Parameter("caller", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)
    signature = inspect.Signature([told_by_gradio, *(_parameter(*each) for each in cls.model_fields.items()
                                                      if extra_of(each[1])["kind"] != "resolved")],
                                  return_annotation=list[dict])
    call.__signature__ = signature
    call.__name__ = task
    call.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return call


def _stop(asked: dict[Job, str]) -> Callable:
    def stop_mine(caller: gr.Request) -> int:
        """End what this client asked for and still waits for; each call answers what was finished until then.

        Answers how many jobs that were.
        """
        mine = [job for job, session in tuple(asked.items())
                if session and session == caller.session_hash and not job.control.stop.is_set()]
        for job in mine:
            job.stop()
        return len(mine)

    return stop_mine


def _parameter(name: str, info: Any) -> inspect.Parameter:
    """One parameter as callers see it. None stays the default where it means "as the model likes"."""
    default = None if name in FILES else info.default
    annotation = (dict | None) if name in FILES else info.annotation
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)


def _stored(studio: Any, values: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Replace the sent files by ids; what was changed in them comes along. A mask is read as white = repaint."""
    changes: list[str] = []
    files = {name: _uploaded(values.pop(name), name) for name in FILES if name in values}
    if files.get("image"):
        stored = studio.images.add(Path(files["image"]))
        values["image"], changes = stored.id, [*stored.notices]
    if files.get("mask"):
        if "image" not in values:
            raise RequestError("Picture: a mask needs the picture it belongs to.", "image")
        stored = studio.images.add(Path(files["mask"]), "mask")
        changes += stored.notices
        mask = studio.images.open(stored.id, "mask")
        values["mask"] = studio.images.add(from_upload(mask, mask.size, soft=True), "mask").id  # scaled by the run
    return values, changes


def _uploaded(value: Any, field: str) -> str | None:
    """The path of an uploaded file. Gradio has checked that it lies in the upload folder, for real files only."""
    if value is None:
        return None
    if not is_file_obj_with_meta(value):
        raise RequestError(f"{field.capitalize()}: send a file (handle_file in gradio_client).", field)
    return value["path"]


def _served(record: Record, embed: bool) -> dict[str, Any]:
    """The PNG where a caller may fetch it; one that the disk has no room for lies in the answer itself, as `url`.

    embed: whether a picture that could not be saved gets its text, as a saved one has.
    """
    name = f"{record.seed}.png" if record.path is None else record.path.name
    try:
        if record.path is not None:
            path = save_file_to_cache(record.path, get_upload_folder())
        else:
            path = save_bytes_to_cache(_data(record, embed), name, get_upload_folder())
    except OSError:
        return {"url": f"data:image/png;base64,{b64encode(_data(record, embed)).decode()}", "orig_name": name}
    return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}


def _data(record: Record, embed: bool) -> bytes:
    if record.path is not None:
        return record.path.read_bytes()
    return metadata.png_bytes(record.image, record.infotext if embed else None)
