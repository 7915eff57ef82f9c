"""Autoencoders and text encoders that several checkpoints have in common: one copy in memory serves them all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .components import Component, Components

if TYPE_CHECKING:
    import torch

SHARED = ("vae", "text_encoder", "text_encoder_2")
# What a config says of its making, and nothing of the network.
OF_NO_EFFECT = ("transformers_version", "architectures", "dtype", "torch_dtype")


def adopt(components: Components, others: Iterable[Components]) -> int:
    """Put parts of `others` in the place of those among `components` that equal them, weight for weight.

    Returns the bytes that this saves. Nothing is hashed: two networks that differ are told apart at their first tensor,
    and equal ones are read once.
    """
    saved: dict[str, int] = {}
    for other in others:
        for name in SHARED:
            if name in components and name in other and is_twin(components[name], other[name]):
                components[name], saved[name] = other[name], _bytes(other[name])
    return sum(saved.values())


def is_twin(one: Component, other: Component) -> bool:
    """Whether two networks are of one class, config, place and content."""
    import torch

    if one is other or type(one) is not type(other) or _config(one) != _config(other):
        return one is other
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(
        (tensor.dtype, tensor.device) == (theirs[name].dtype, theirs[name].device) and torch.equal(tensor, theirs[name])
        for name, tensor in mine.items())


def bytes_saved(holders: Iterable[Components]) -> int:
    """Bytes that would be counted more than once when the sizes of holders of shared parts are added up."""
    seen: set[int] = set()
    saved = 0
    for components in holders:
        for part in (components[name] for name in SHARED if name in components):
            if id(part) in seen:
                saved += _bytes(part)
            seen.add(id(part))
    return saved


def _bytes(network: torch.nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*network.parameters(), *network.buffers()))


def _config(network: torch.nn.Module) -> dict[str, object]:
    config = network.config
    said = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return {key: value for key, value in said.items() if not key.startswith("_") and key not in OF_NO_EFFECT}
