"""A LoRA file -> Adapter: every layer found in the model and checked against it, nothing left out silently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import ModelError
from ..families import FAMILIES, Family
from ..library.read import lora_keys
from ..library.read.card import refuse_pickle
from ..library.read.headers import Header, read_header
from . import layer_names
from .alphas import alphas
from .assemble import assembled, part_of, unusable
from .delta import Full, Part, is_by_row
from .foreign import turned

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

FLOATS = ("F16", "BF16", "F32", "F64", "F8_E4M3", "F8_E5M2")
MAX_TRIGGER = 500  # characters
SHOWN_NAMES = 3


@dataclass(frozen=True, eq=False)
class Adapter:
    """What a file changes in one model.

    parts: path of a layer (see layer_names.py) -> its change. biases: path -> what is added to its bias, (out,).
    layers: how many the file has. unmatched: names in the file that this model has no layer for, or that are no part of
    an adapter. family: key of FAMILIES or words, "" unknown. notes: what the file holds that is not used, and what is
    read otherwise than elsewhere, without the name.
    """

    name: str
    parts: Mapping[str, Part]
    layers: int
    unmatched: tuple[str, ...] = ()
    family: str = ""
    trigger_words: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    biases: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def ranks(self) -> tuple[int, ...]:
        """The different ranks, smallest first; a change of a norm has none."""
        return tuple(sorted({part.rank for part in self.parts.values()
                             if not (isinstance(part, Full) and part.diff.ndim == 1)}))

    @property
    def matched(self) -> int:
        """How many layers are changed."""
        return len(self.parts.keys() | self.biases.keys())

    @property
    def lines(self) -> tuple[str, ...]:
        """`line`, and a sentence about everything in the file that has no effect."""
        return (self.line, *(f"{self.name}: {note}." for note in self.notes))

    @property
    def line(self) -> str:
        """One line for the page: how much of the file takes effect."""
        ranks = self.ranks
        rank = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}" if ranks else "no rank"
        kind = f", for {lora_keys.label(self.family)}" if self.family else ""
        return f"{self.name}: {self.matched} of {self.layers} layers matched, {rank}{kind}"


def read(path: Path, pipe: DiffusionPipeline, family: Family, name: str | None = None) -> Adapter:
    """Read a safetensors file for the model in `pipe`.

    Raises ModelError naming file and reason: damaged, no adapter, for another family, no layer matched, a layer of
    another shape, a rank over 1,024, a number that is not finite.
    """
    refuse_pickle(path)
    header = read_header(path)
    shown = path.name[:80]
    if not lora_keys.is_adapter(header.shapes):
        raise ModelError(lora_keys.refusal(shown, header.shapes))
    lora_keys.ranks(header)
    kind = lora_keys.family_of(header)
    # What is told of transformers is told by a few words of their names: their own layers decide.
    if kind and kind != family.name and (kind in FAMILIES or not family.layers_tell_loras):
        raise _for_another(shown, kind, family)
    named, other = lora_keys.layers(header.shapes)
    table = layer_names.table(pipe, _nameless(pipe, header, named))
    found, unmatched = _match(named, table)
    tensors: Mapping[str, Tensor] = {}
    if not found and family.layers_tell_loras and hasattr(pipe, "lora_state_dict"):
        tensors = turned(pipe, shown, named, _tensors(header, [key for roles in named.values()
                                                               for key in roles.values()]))
        found, unmatched = _match(lora_keys.layers(tensors)[0], table)
        named = lora_keys.layers(tensors)[0] or named
    if not found:
        if kind and kind not in (family.name, family.label):
            raise _for_another(shown, kind, family)
        raise ModelError(f"{shown} does not fit: 0 of {len(named)} layers matched. The model is {family.label}.")
    modules = layer_names.modules(pipe)
    tensors = tensors or _tensors(header, [key for roles in found.values() for key in roles.values()])
    known = alphas(header, path)
    parts: dict[str, Part] = {}
    biases: dict[str, Tensor] = {}
    for layer, roles in found.items():
        held = {role: tensors[key] for role, key in roles.items()}
        part, bias = part_of(shown, layer, held, modules[layer], known)
        if part is not None:
            parts[layer] = part
        if bias is not None:
            biases[layer] = bias
    notes = (*_unused(header, unmatched, other), *known.notes, *_dora_note(parts))
    return Adapter(name or path.stem, parts, len(found) + len(unmatched), (*unmatched, *other), kind,
                   header.metadata.get("modelspec.trigger_phrase", "")[:MAX_TRIGGER], header.metadata, biases, notes)


def parts_of(path: Path) -> dict[str, Part]:
    """What a safetensors file changes, by its own names of the layers, without a model to check it against.

    Raises ModelError for a file that is damaged or holds no adapter. Layers that are not whole are left out.
    """
    refuse_pickle(path)
    header = read_header(path)
    if not lora_keys.is_adapter(header.shapes):
        raise ModelError(lora_keys.refusal(path.name[:80], header.shapes))
    named, _ = lora_keys.layers(header.shapes)
    tensors = _tensors(header, [key for roles in named.values() for key in roles.values()])
    alpha_of, parts = alphas(header, path).of, {}
    for layer, roles in named.items():
        held = {role: tensors[key] for role, key in roles.items() if role not in ("dora_scale", "magnitude")}
        alpha = held.pop("alpha", None)
        if (part := assembled(held)) is not None:
            value = alpha_of(layer, part.rank) if alpha is None and "." in layer else alpha
            parts[layer] = replace(part, alpha=float(part.rank if value is None else value))
    if not parts:
        raise ModelError(f"{path.name[:80]} cannot be used: none of its changes can be told without a model.")
    return parts


def _for_another(shown: str, kind: str, family: Family) -> ModelError:
    return ModelError(f"{shown} is a LoRA for {lora_keys.label(kind)}, the model is {family.label}.")


def _match(named: Mapping[str, Mapping[str, str]], table: Mapping[str, str]) -> tuple[
        dict[str, dict[str, str]], tuple[str, ...]]:
    """({path: {role: tensor's name}}, the layers that the model does not have)."""
    found: dict[str, dict[str, str]] = {}
    for name, roles in named.items():
        if path := layer_names.path_of(table, name):
            found.setdefault(path, {}).update(roles)
    empty = [path for path, roles in found.items() if roles.keys() <= {"alpha"}]
    for path in empty:
        del found[path]
    return found, tuple(name for name in named if layer_names.path_of(table, name) not in found)


def _nameless(pipe: DiffusionPipeline, header: Header, named: Mapping[str, Mapping[str, str]]) -> str:
    """The text encoder that names without one mean, as the width of its layers tells."""
    here = [encoder for encoder in reversed(layer_names.ENCODERS) if getattr(pipe, encoder, None) is not None]
    widths = {getattr(pipe, encoder).config.hidden_size: encoder for encoder in here
              if hasattr(getattr(pipe, encoder).config, "hidden_size")}
    for name, roles in named.items():
        if "down" in roles and name.endswith(("q_proj", "k_proj", "v_proj", "fc1")):
            return widths.get(header.shapes[roles["down"]][-1], layer_names.ENCODERS[0])
    return layer_names.ENCODERS[0]


def _unused(header: Header, unmatched: tuple[str, ...], other: tuple[str, ...]) -> list[str]:
    """What the file holds that has no effect on this model."""
    notes = []
    kinds = lora_keys.not_read({key: header.shapes[key] for key in other})
    if unmatched:
        notes.append(f"{len(unmatched)} of its layers are not in this model: {_listed(unmatched)}")
    if words := lora_keys.bundled(other):
        notes.append(f"its embeddings are not read from a LoRA file: {_listed(words)}")
    notes += [f"{count} of its tensors are of {kind}, which is not read here" for kind, count in kinds.items()]
    rest = [key for key in other
            if not key.startswith(lora_keys.BUNDLED) and not lora_keys.not_read({key: header.shapes[key]})]
    if rest:
        notes.append(f"{len(rest)} of its tensors are not used: {_listed(rest)}")
    return notes


def _listed(found: Sequence[str]) -> str:
    shown = ", ".join(name[:80] for name in found[:SHOWN_NAMES])
    return f"{shown} ..." if len(found) > SHOWN_NAMES else shown


def _dora_note(parts: Mapping[str, Part]) -> list[str]:
    """Where programs differ: ComfyUI divides by the length of the rows of W alone."""
    if any(part.dora_scale is not None and is_by_row(part.dora_scale) for part in parts.values()):
        return ["its magnitudes (DoRA) are of the rows of W + dW, as in the paper and in peft"]
    return []


def _tensors(header: Header, wanted: list[str]) -> dict[str, Tensor]:
    """Read tensors into memory of our own: a mapped file that another program cuts short would end this one."""
    for key in wanted:
        if header.dtypes[key] not in FLOATS and not key.endswith((".alpha", ".on_input")):
            raise unusable(header.path.name, f"{key[:80]} is stored as {header.dtypes[key][:20]}")
    tensors = {}
    try:
        with safe_open(header.path, "pt") as file:
            for key in wanted:
                tensor = file.get_tensor(key)
                tensors[key] = tensor.float() if tensor.element_size() == 1 else tensor.clone()
    except (SafetensorError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise unusable(header.path.name, (reason or "the disk does not answer")[:200]) from None
    for key, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise unusable(header.path.name, f"{key[:80]} holds numbers that are not finite")
    return tensors
