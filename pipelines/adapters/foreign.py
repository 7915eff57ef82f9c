"""LoRA files for transformers, whose layers other programs name and join in their own ways: turned by the library."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..library.read import lora_keys
from .assemble import shortened, sizes_of, unusable

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

log = logging.getLogger(__name__)


def turned(pipe: DiffusionPipeline, shown: str, named: Mapping[str, Mapping[str, str]], tensors: dict[str, Tensor]
           ) -> dict[str, Tensor]:
    """The tensors under diffusers' names, as the library turns those of other programs; empty where it cannot.

    Scales are worked into them, and layers that diffusers has in parts are taken apart. The library leaves magnitudes
    (DoRA) out; they are split by outputs as up factors are, and so go the same way once more in their place.
    """
    magnitudes = {layer: tensors.pop(roles[role]) for layer, roles in named.items()
                  for role in ("dora_scale", "magnitude") if role in roles}
    made = _by_the_library(pipe, tensors)
    if not magnitudes or not made:
        return made
    disguised = tensors | _as_up_factors(shown, named, tensors, magnitudes)
    for name, column in _by_the_library(pipe, disguised).items():
        layer, role = lora_keys.split(name) or ("", "")
        if role == "up" and not column.isnan().any():
            made[f"{layer}.dora_scale"] = column[:, :1]
    return made


def _as_up_factors(shown: str, named: Mapping[str, Mapping[str, str]], tensors: Mapping[str, Tensor],
                   magnitudes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The magnitudes of layers in the shape, at the scale of 1 and under the names of their up factors.

    A layer without magnitudes has not-a-numbers there, which no file holds. Raises ModelError for magnitudes that are
    not one for each output.
    """
    made = {}
    for layer, roles in named.items():
        if not {"down", "up"} <= roles.keys():
            continue
        up = tensors[roles["up"]]
        magnitude = magnitudes.get(layer, torch.full((len(up), 1), torch.nan))
        if magnitude.shape[0] != len(up) or magnitude.numel() != len(up):
            raise unusable(shown, f"the magnitudes (DoRA) of {shortened(layer)} are {sizes_of(magnitude)}. Of a layer "
                                  f"that the library names otherwise, one for each of its {len(up)} outputs is read")
        made[roles["up"]] = magnitude.reshape(-1, *[1] * (up.ndim - 1)).expand_as(up).clone()
        if "alpha" in roles:
            made[roles["alpha"]] = torch.tensor(float(up.shape[1]))
    return made


def _by_the_library(pipe: DiffusionPipeline, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    try:
        return {name: tensor.contiguous() for name, tensor in type(pipe).lora_state_dict(dict(tensors)).items()}
    except Exception:  # each of its converters has errors of its own; the caller refuses the file in plain words
        log.warning("The library cannot turn this LoRA's names into its own.", exc_info=True)
        return {}
