"""A model with adapters in its weights, as a checkpoint of its own: a diffusers folder in float16.

The model in memory is not changed: its tensors are kept aside while the sums are written, and put back.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import ModelError
from ..families import Family
from ..library.read.card import parts_of
from . import layer_names
from .apply import Uses, merged

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

WEIGHTS = "diffusion_pytorch_model.safetensors"


def merge(folder: Path, pipe: DiffusionPipeline, family: Family, uses: Uses,
          dtype: torch.dtype = torch.float16) -> Path:
    """Write the pipeline with the adapters merged in to `folder`, which must not be there yet. Return `folder`.

    Text encoders get the names with `text_model`, which old and new programs read. Raises ModelError for a folder
    that is there, and for weights that are not finite; nothing is left behind then.
    """
    taken = ModelError(f"{folder.name[:80]}: there is a model of this name already.")
    if folder.exists():
        raise taken
    layers = layer_names.modules(pipe)
    if any(layers[path].bias is None for adapter, *_ in uses for path in adapter.biases if path in layers):
        raise ModelError(f"{folder.name[:80]} was not written: a LoRA changes biases of layers that have none in this "
                         "model, so no checkpoint can hold it.")
    half = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    try:
        with merged(pipe, uses):
            _write_folder(half, pipe, family, dtype)
        try:
            half.rename(folder)
        except OSError:
            if folder.exists():  # of another process that was quicker
                raise taken from None
            raise
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return folder


def _write_folder(folder: Path, pipe: DiffusionPipeline, family: Family, dtype: torch.dtype) -> None:
    import diffusers

    parts = {part: getattr(pipe, part) for part in parts_of(family)}
    for part, component in parts.items():
        place = folder / part
        if not isinstance(component, nn.Module):
            component.save_pretrained(place)
        elif part in layer_names.ENCODERS:
            component.config.save_pretrained(place)
            # Stock loaders take the text encoder's format from here, and float32 for everything else.
            _change(place / "config.json", {"dtype": "float32", "architectures": [type(component).__name__]})
            named = {layer_names.with_text_model(key): tensor for key, tensor in component.state_dict().items()}
            save_file(_stored(part, named, dtype), place / "model.safetensors", {"format": "pt"})
        else:
            component.save_config(place)
            save_file(_stored(part, component.state_dict(), dtype), place / WEIGHTS, {"format": "pt"})
    without = {} if family.pooled else {"safety_checker": None, "feature_extractor": None,
                                        "requires_safety_checker": False}
    inpainting = pipe.unet.config.in_channels == 9
    cls = getattr(diffusers, family.pipelines["inpaint" if inpainting else "txt2img"])
    cls(**parts, **without).save_config(folder)


def _stored(part: str, tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    stored = {}
    for key, tensor in tensors.items():
        stored[key] = (tensor.to("cpu", dtype) if tensor.is_floating_point() else tensor.cpu()).contiguous()
        if tensor.is_floating_point() and not torch.isfinite(stored[key]).all():
            raise ModelError(f"The {part} of the merged model was not saved: {key[:80]} holds numbers that are not "
                             f"finite in {str(dtype).removeprefix('torch.')}.")
    return stored


def _change(path: Path, changes: Mapping[str, object]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}, indent=2),
                    encoding="utf-8")
