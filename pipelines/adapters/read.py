"""A LoRA file -> Adapter: every layer found in the model and checked against it, nothing left out silently."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from ..families import FAMILIES, Family
from ..library.read import lora_keys
from ..library.read.card import refuse_pickle
from ..library.read.headers import Header, read_header
from . import layer_names
from .delta import Full, Hadamard, Kronecker, LowRank, Part

log = logging.getLogger(__name__)

FLOATS = ("F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2")
MAX_TRIGGER = 500  # characters
PEFT_METADATA = "lora_adapter_metadata"


@dataclass(frozen=True, eq=False)
class Adapter:
    """What a file changes in one model.

    parts: path of a layer (see names.py) -> its change. layers: how many the file has. unmatched: names in the file
    that this model has no layer for, or that are no part of an adapter. family: key of FAMILIES or words, "" unknown.
    """

    name: str
    parts: Mapping[str, Part]
    layers: int
    unmatched: tuple[str, ...] = ()
    family: str = ""
    trigger_words: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The different ranks, smallest first."""
        return tuple(sorted({part.rank for part in self.parts.values()}))

    @property
    def line(self) -> str:
        """One line for the page: how much of the file takes effect."""
        ranks = self.ranks
        rank = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
        kind = f", for {lora_keys.label(self.family)}" if self.family else ""
        return f"{self.name}: {len(self.parts)} of {self.layers} layers matched, {rank}{kind}"


def read(path: Path, pipe: Any, family: Family, name: str | None = None) -> Adapter:
    """Read a safetensors file for the model in `pipe`.

    Raises ModelError naming file and reason: damaged, no adapter, for another family, no layer matched, a layer of
    another shape, a rank over 1,024, a number that is not finite.
    """
    refuse_pickle(path)
    header = read_header(path)
    shown = path.name[:80]
    if not lora_keys.is_adapter(header.shapes):
        raise ModelError(f"{shown} cannot be used: it holds no LoRA.")
    lora_keys.ranks(header)
    kind = lora_keys.family_of(header)
    # What is told of transformers is told by a few words of their names: their own layers decide.
    if kind and kind != family.name and (kind in FAMILIES or family.stock is None):
        raise _for_another(shown, kind, family)
    named, other = lora_keys.layers(header.shapes)
    table = layer_names.table(pipe)
    found, unmatched = _match(named, table)
    tensors: Mapping[str, Tensor] = {}
    if not found and family.stock and hasattr(pipe, "lora_state_dict"):
        tensors = _turned(pipe, shown, named, _tensors(header, [key for roles in named.values()
                                                                for key in roles.values()]))
        found, unmatched = _match(lora_keys.layers(tensors)[0], table)
        named = lora_keys.layers(tensors)[0] or named
    if not found:
        if kind and kind not in (family.name, family.label):
            raise _for_another(shown, kind, family)
        raise ModelError(f"{shown} does not fit: 0 of {len(named)} layers matched. The model is {family.label}.")
    modules = layer_names.layers(pipe)
    tensors = tensors or _tensors(header, [key for roles in found.values() for key in roles.values()])
    alpha_of = _peft_alphas(header.metadata)
    parts = {}
    for layer, roles in found.items():
        held = {role: tensors[key] for role, key in roles.items()}
        parts[layer] = _part(shown, layer, held, modules[layer], alpha_of)
    return Adapter(name or path.stem, parts, len(named), (*unmatched, *other), kind,
                   header.metadata.get("modelspec.trigger_phrase", "")[:MAX_TRIGGER], header.metadata)


def parts_of(path: Path) -> dict[str, Part]:
    """What a safetensors file changes, by its own names of the layers, without a model to check it against.

    Raises ModelError for a file that is damaged or holds no adapter. Layers that are not whole are left out.
    """
    refuse_pickle(path)
    header = read_header(path)
    named, _ = lora_keys.layers(header.shapes)
    tensors = _tensors(header, [key for roles in named.values() for key in roles.values()])
    alpha_of, parts = _peft_alphas(header.metadata), {}
    for layer, roles in named.items():
        held = {role: tensors[key] for role, key in roles.items() if role not in ("dora_scale", "magnitude")}
        alpha = held.pop("alpha", None)
        if (part := _assembled(held)) is not None:
            value = alpha_of(layer, part.rank) if alpha is None and "." in layer else alpha
            parts[layer] = replace(part, alpha=float(part.rank if value is None else value))
    if not parts:
        raise ModelError(f"{path.name[:80]} cannot be used: it holds no LoRA.")
    return parts


def _for_another(shown: str, kind: str, family: Family) -> ModelError:
    return ModelError(f"{shown} is a LoRA for {lora_keys.label(kind)}, the model is {family.label}.")


def _turned(pipe: Any, shown: str, named: Mapping[str, Mapping[str, str]], tensors: dict[str, Tensor]
            ) -> dict[str, Tensor]:
    """The tensors under diffusers' names, as the library turns those of other programs; empty where it cannot.

    Scales are worked into them, and layers that diffusers has in parts are taken apart. The library leaves magnitudes
    (DoRA) out; they are split by outputs as up factors are, and so go the same way once more in their place.
    """
    magnitudes = {layer: tensors.pop(roles[role]) for layer, roles in named.items()
                  for role in ("dora_scale", "magnitude") if role in roles}
    turned = _by_the_library(pipe, tensors)
    if not magnitudes or not turned:
        return turned
    disguised = tensors | _as_up_factors(shown, named, tensors, magnitudes)
    for name, column in _by_the_library(pipe, disguised).items():
        layer, role = lora_keys.split(name) or ("", "")
        if role == "up" and not column.isnan().any():
            turned[f"{layer}.dora_scale"] = column[:, :1]
    return turned


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
            raise _unusable(shown, f"the magnitudes (DoRA) of {_short(layer)} are {_sizes(magnitude)}. Of a layer that "
                                   f"the library names otherwise, one for each of its {len(up)} outputs is read")
        made[roles["up"]] = magnitude.reshape(-1, *[1] * (up.ndim - 1)).expand_as(up).clone()
        if "alpha" in roles:
            made[roles["alpha"]] = torch.tensor(float(up.shape[1]))
    return made


def _by_the_library(pipe: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    try:
        return {name: tensor.contiguous() for name, tensor in type(pipe).lora_state_dict(dict(tensors)).items()}
    except Exception:  # each of its converters has errors of its own; the caller refuses the file in plain words
        log.warning("The library cannot turn this LoRA's names into its own.", exc_info=True)
        return {}


def _match(named: Mapping[str, Mapping[str, str]], table: Mapping[str, str]) -> tuple[
        dict[str, dict[str, str]], tuple[str, ...]]:
    """({path: {role: tensor's name}}, the layers that the model does not have)."""
    found: dict[str, dict[str, str]] = {}
    for name, roles in named.items():
        if name in table:
            found.setdefault(table[name], {}).update(roles)
    empty = [path for path, roles in found.items() if roles.keys() <= {"alpha"}]
    for path in empty:
        del found[path]
    return found, tuple(name for name in named if table.get(name) not in found)


def _tensors(header: Header, wanted: list[str]) -> dict[str, Tensor]:
    """Read tensors into memory of our own: a mapped file that another program cuts short would end this one."""
    for key in wanted:
        if header.dtypes[key] not in FLOATS and not key.endswith(".alpha"):
            raise _unusable(header.path.name, f"{key[:80]} is stored as {header.dtypes[key][:20]}")
    tensors = {}
    try:
        with safe_open(header.path, "pt") as file:
            for key in wanted:
                tensor = file.get_tensor(key)
                tensors[key] = tensor.float() if tensor.element_size() == 1 else tensor.clone()
    except (SafetensorError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise _unusable(header.path.name, (reason or "the disk does not answer")[:200]) from None
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise _unusable(header.path.name, f"{key[:80]} holds numbers that are not finite")
    return tensors


def _part(shown: str, layer: str, held: dict[str, Tensor], module: nn.Module,
          alpha_of: Callable[[str, int], float | None]) -> Part:
    """Build the part of one layer and check that it changes a weight of this layer's shape."""
    alpha = held.pop("alpha", None)
    dora_scale, magnitude = held.pop("dora_scale", None), held.pop("magnitude", None)
    shape = layer_names.weight_shape(module)
    if layer == "unet.conv_in" and "down" in held:
        held["down"] = _for_more_channels(held["down"], shape)
    part = _assembled(held)
    if part is None or (alpha is not None and alpha.numel() != 1):
        raise _unusable(shown, f"{_short(layer)} is not whole: it has {', '.join(sorted(held))[:120]}")
    if not part.fits(shape) or getattr(module, "groups", 1) != 1:
        sizes = ", ".join(f"{role} {_sizes(tensor)}" for role, tensor in held.items())
        raise _unusable(shown, f"it is made for a model of other sizes. {_short(layer)} is "
                               f"{'x'.join(map(str, shape))} here, and the file has {sizes[:160]}")
    value = float(alpha) if alpha is not None else alpha_of(layer, part.rank)
    if magnitude is not None:  # peft's, which has one for each output
        dora_scale = magnitude.reshape(-1, 1)
    if dora_scale is not None:
        dora_scale = _dora(shown, layer, dora_scale, shape)
    # No alpha means a scale of 1.
    return type(part)(**{**vars(part), "alpha": part.rank if value is None else value, "dora_scale": dora_scale})


def _assembled(held: Mapping[str, Tensor]) -> Part | None:
    """The kind of part that the roles make up; None when one is missing. alpha and dora_scale are still to be set."""
    short = {role.split("_", 1)[-1]: tensor for role, tensor in held.items()}
    if {"down", "up"} <= held.keys():
        return LowRank(held["down"], held["up"], 1.0, mid=held.get("mid"))
    if {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"} <= held.keys():
        return Hadamard(**short, alpha=1.0)
    if "diff" in held:
        return Full(held["diff"])
    w1, w2 = (tuple(short[name] for name in ((w,) if w in short else (f"{w}_a", f"{w}_b")) if name in short)
              for w in ("w1", "w2"))
    whole = [len(factors) == (1 if w in short else 2) for w, factors in (("w1", w1), ("w2", w2))]
    return Kronecker(w1, w2, 1.0, short.get("t2")) if all(whole) else None


def _for_more_channels(down: Tensor, shape: torch.Size) -> Tensor:
    """Let what was trained on 4 channels leave the mask and the masked picture of an inpainting model alone."""
    missing = shape[1] - down.shape[1] if down.ndim == 4 else 0
    return F.pad(down, (0, 0, 0, 0, 0, missing)) if missing > 0 and down.shape[1] == 4 else down


def _dora(shown: str, layer: str, dora_scale: Tensor, shape: torch.Size) -> Tensor:
    """Magnitudes in the number of axes of the weight: (out, 1[, 1, 1]) or (1, in[, 1, 1])."""
    ones = [1] * (len(shape) - 2)
    if dora_scale.shape[:1] == shape[:1] and dora_scale.numel() == shape[0]:
        return dora_scale.reshape(shape[0], 1, *ones)
    if dora_scale.shape[1:2] == shape[1:2] and dora_scale.numel() == shape[1]:
        return dora_scale.reshape(1, shape[1], *ones)
    raise _unusable(shown, f"the magnitudes of {_short(layer)} are {_sizes(dora_scale)}, "
                           f"the weight is {'x'.join(map(str, shape))}")


def _peft_alphas(metadata: Mapping[str, str]) -> Callable[[str, int], float | None]:
    """(layer's path, rank) -> alpha, from the settings that diffusers writes into the header instead of tensors."""
    try:
        said = json.loads(metadata.get(PEFT_METADATA, ""))
    except (ValueError, RecursionError):
        said = None
    said = said if isinstance(said, dict) else {}

    def alpha_of(layer: str, rank: int) -> float | None:
        component, inner = layer.split(".", 1)
        alpha = said.get(f"{component}.lora_alpha")
        patterns = said.get(f"{component}.alpha_pattern")
        for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
            # Patterns are the ends of paths; as regular expressions they would be programs from a stranger.
            plain = layer_names.with_text_model(pattern).removeprefix("text_model.")
            if inner == plain or inner.endswith(f".{plain}"):
                alpha = value
        if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not math.isfinite(alpha):
            return None
        return alpha * math.sqrt(rank) if said.get(f"{component}.use_rslora") is True else float(alpha)

    return alpha_of


def _sizes(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def _short(layer: str) -> str:
    return layer[:120]


def _unusable(file: str, reason: str) -> ModelError:
    return ModelError(f"{file[:80]} cannot be used: {reason}.")
