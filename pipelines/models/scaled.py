"""Weights that a single file keeps in 8 bits with a scale beside them, as ComfyUI writes them: weight = stored * scale.

Comfy-Org/ComfyUI, comfy/ops.py: scale_weight, and weight_scale in newer files, both float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from ..families import Family
from ..library.read.headers import Header
from .components import Components

if TYPE_CHECKING:
    import torch

SCALES = (".scale_weight", ".weight_scale")
# What else such files hold: scales of the layers' inputs, for cards that multiply in 8 bits, and marks of the kind.
MARKS = (".scale_input", ".input_scale", ".comfy_quant")
MARK = "scaled_fp8"


def scaled_layers(header: Header) -> dict[str, str]:
    """{name of a weight: name of its scale}; empty for files of every other kind."""
    found = {}
    for name in header.shapes:
        for ending in SCALES:
            if name.endswith(ending) and (weight := f"{name.removesuffix(ending)}.weight") in header.shapes:
                found[weight] = name
    return found


def is_mark(name: str) -> bool:
    """Whether a tensor only says how others are kept."""
    return name.endswith((*SCALES, *MARKS)) or name.rpartition(".")[2] == MARK


def whole_tensors(header: Header, dtype_of: Callable[[str], torch.dtype]) -> dict[str, torch.Tensor]:
    """Read a file with its scales worked into the weights. dtype_of: name -> the number format to have it in.

    Raises ModelError naming the file and the tensor for a scale that is not one number, or one for each output.
    """
    from safetensors import safe_open

    scales = scaled_layers(header)
    found = {}
    with safe_open(header.path, framework="pt") as file:
        for name in header.shapes:
            if is_mark(name):
                continue
            tensor = file.get_tensor(name)
            if name in scales:
                tensor = tensor.float() * _shaped(header, scales[name], file.get_tensor(scales[name]), tensor)
            found[name] = tensor.to(dtype_of(name)) if tensor.is_floating_point() else tensor
    return found


def text_encoders(tensors: dict[str, torch.Tensor], folder: Path, family: Family, dtype: torch.dtype) -> Components:
    """Build the text encoders from a file's whole tensors. folder: with their configs."""
    import transformers
    from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm

    from ..library.read.card import read_json

    index = read_json(folder / "model_index.json")
    return {part: create_diffusers_clip_model_from_ldm(
        getattr(transformers, index[part][1]), tensors, subfolder=part, config=str(folder), torch_dtype=dtype,
        local_files_only=True) for _, part in family.text_encoders}


def _shaped(header: Header, name: str, scale: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    if scale.numel() == 1:
        return scale.float().reshape(())
    if scale.numel() == weight.shape[0] and math.prod(scale.shape[:1]) == weight.shape[0]:
        return scale.float().reshape(-1, *[1] * (weight.dim() - 1))
    raise ModelError(f"{header.path.name[:80]} cannot be used: {name[:80]} has {scale.numel():,} numbers. A scale is "
                     "one number, or one for each output.")
