"""The Hugging Face hub, only when somebody asks for it by name: data sets and unconditional models.

`datasets` is needed for data sets alone and is not installed with the app.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ModelError, RequestError, StudioError, quoted
from .assets import UNCONDITIONAL
from .data import MAX_PICTURES, TinySet, pixels_of, square
from .requests import HUB_ID

# Some of the oldest models have their weights beside the index instead of in a folder.
MODEL_FILES = ("*.json", "unet/*.safetensors", "diffusion_pytorch_model*.safetensors")
IMAGE_COLUMNS, LABEL_COLUMNS, TEXT_COLUMNS = ("image", "img", "picture"), ("label", "labels"), ("text", "caption")
SHOWN = 40  # letters of a foreign word


def data_set(name: str, side: int, token: str = "") -> TinySet:
    """The pictures of a data set's first split. Raises RequestError, and StudioError when it cannot be had."""
    _check(name, "Data", "data")
    try:
        import datasets
    except ImportError:
        raise StudioError("Data: sets of the hub need one more package: pip install datasets") from None
    try:
        loaded = datasets.load_dataset(name, split="train", token=token or None)
    except Exception as error:  # the network's and the hub's errors are of many kinds
        raise StudioError(f"Data: {name} cannot be fetched from the hub. Is the name right, the network there, and a "
                          "token given if it is private?") from error
    return from_table(loaded, name, side)


def from_table(table: Any, name: str, side: int) -> TinySet:
    """Pictures, classes and captions of a table with named columns, as `datasets` gives it."""
    image, label, text = (next((one for one in wanted if one in table.column_names), None)
                          for wanted in (IMAGE_COLUMNS, LABEL_COLUMNS, TEXT_COLUMNS))
    if image is None:
        raise RequestError(f"Data: {name} has no column of pictures (image).", "data")
    rows = [table[i] for i in range(min(len(table), MAX_PICTURES))]
    if len(rows) < 2:
        raise RequestError(f"Data: {name} holds fewer than 2 pictures.", "data")
    tiles = np.stack([square(row[image].convert("RGB"), side) for row in rows])
    numbers = [int(row[label]) for row in rows] if label else [0] * len(rows)
    known = getattr(table.features.get(label), "names", None) if label else None
    classes = tuple(known or map(str, range(max(numbers) + 1))) if label else ()
    captions = tuple(str(row[text]) for row in rows) if text else ()
    return TinySet(name, pixels_of(tiles), torch.tensor(numbers), classes, captions=captions)


def model_folder(name: str, token: str = "") -> Path:
    """Download a DDPMPipeline, its safetensors weights only. Raises ModelError when it cannot be had or is another."""
    _check(name, "Model", "model")
    from huggingface_hub import hf_hub_download, snapshot_download

    asked = {"repo_id": name, "token": token or None}
    try:
        kind = json.loads(Path(hf_hub_download(filename="model_index.json", **asked)).read_text("utf-8"))["_class_name"]
        if kind in UNCONDITIONAL:  # else nothing large is fetched in vain
            return Path(snapshot_download(allow_patterns=list(MODEL_FILES), **asked))
    except Exception as error:  # the network's and the hub's errors are of many kinds
        raise ModelError(f"Model: {name} cannot be fetched from the hub. Is the name right, the network there, and a "
                         "token given if it is private?") from error
    raise ModelError(f"Model: {name} is a {str(kind)[:SHOWN]}. Here a DDPMPipeline is needed.")


def _check(name: str, title: str, field: str) -> None:
    if not re.fullmatch(HUB_ID, name):
        raise RequestError(f"{title}: {quoted(name)} is no name on the hub. It is owner/name.", field)
