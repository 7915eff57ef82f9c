"""Ask for a LoRA to be merged into a checkpoint: what the page says and the engine does. No torch at import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from ..errors import RequestError, quoted
from ..requests import param


class MergeLora(BaseModel):
    """A checkpoint of its own from a model and a LoRA."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    model: str = param(..., "Model", min_length=1, max_length=1000, help="The checkpoint it is merged into.")
    lora: str = param(..., "Weights", min_length=1, max_length=200, help="The LoRA that is merged.")
    strength: float = param(1.0, "Strength", ge=-2, le=2, step=0.05, help="How much of the LoRA goes in: 1 is as "
                                                                          "trained.")
    name: str = param(..., "Name of the model", min_length=1, max_length=80, pattern=r"^[^\W_][\w.+-]*(?: [\w.+-]+)*$",
                      help="Name of the new model: letters, digits, and . _ + - inside.")


def check(request: MergeLora, folder: Path) -> None:
    """Raise RequestError when there is a model of that name already."""
    if (folder / request.name).exists():
        raise RequestError(f"Name of the model: there is {quoted(request.name)} already. Take another name.", "name")


def merge_into(request: MergeLora, lease: Any, lora: Path, folder: Path) -> tuple[str, ...]:
    """Write the model into the folder of models, where every picker finds it; what of the LoRA is in it, in sentences.

    The model in memory is not changed.

    Raises RequestError for a name that is taken, ModelError for a LoRA of another family.
    """
    from .merge import merge
    from .read import read

    check(request, folder)
    adapter = read(lora, lease.pipe, lease.family, request.lora)
    folder.mkdir(parents=True, exist_ok=True)
    merge(folder / request.name, lease.pipe, lease.family, [(adapter, request.strength, request.strength)])
    return adapter.lines
