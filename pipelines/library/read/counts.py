"""A config's counts against the tensors of its weights, before anything is built. Imports no torch.

A config is a few lines of a stranger's text: 100,000 layers in it would be built for minutes before a tensor is found
to be missing. Every layer has a tensor, so no honest count is above that of the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ...errors import ModelError
from .headers import Header

# Qwen's max_window_layers is no count: layers from that one on look at a window, and it may lie behind the last.
COUNT = re.compile(r"(?<!max_window_)(layers|blocks|depth|depths|layers_per_block|num_stages)$")
SIZE = re.compile(r"(size|sizes|dim|dims|channels|positions?|position_embeddings|features|length|width|timesteps)$")
ALWAYS = 64  # so many are built at once
MAX_SIZE = 1 << 24
MAX_TIMESTEPS = 100_000


def check_counts(shown: str, config: Mapping[str, Any], headers: Iterable[Header]) -> None:
    """Raise ModelError for a config that asks for more than its weights can hold. shown: the config's name."""
    headers = tuple(headers)
    tensors = max(ALWAYS, sum(len(header.shapes) for header in headers))
    largest = max((axis for header in headers for shape in header.shapes.values() for axis in shape), default=0)
    for name, value in _numbers(config):
        limit = tensors if COUNT.search(name) else max(MAX_SIZE, largest) if SIZE.search(name) else None
        if limit is not None and value > limit:
            raise _too_many(shown, name, value, limit, "tensors" if limit == tensors else "numbers in a row")
    for name, entries in _lists(config):
        if len(entries) > tensors:
            raise _too_many(shown, f"{name} (entries)", len(entries), tensors, "tensors")
    in_unet = (len(config.get("block_out_channels") or ()) * _largest(config.get("layers_per_block"))
               * _largest(config.get("transformer_layers_per_block")))
    if in_unet > tensors:
        raise _too_many(shown, "layers_per_block", in_unet, tensors, "tensors")


def check_scheduler(shown: str, config: Mapping[str, object]) -> None:
    """Raise ModelError for more timesteps than any model has: a table of them is made."""
    value = config.get("num_train_timesteps", 1000)
    if type(value) is not int or not 0 < value <= MAX_TIMESTEPS:
        raise ModelError(f"{shown} cannot be used: num_train_timesteps is {str(value)[:20]}. It is from 1 to "
                         f"{MAX_TIMESTEPS:,}.")


def _numbers(config: object, name: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number with the name that it stands under; those in lists under the list's."""
    if type(config) is int:
        yield name, config
    elif isinstance(config, Mapping):
        for key, value in config.items():
            yield from _numbers(value, str(key))
    elif isinstance(config, list):
        for value in config:
            yield from _numbers(value, name)


def _lists(config: object, name: str = "") -> Iterator[tuple[str, list[object]]]:
    if isinstance(config, Mapping):
        for key, value in config.items():
            yield from _lists(value, str(key))
    elif isinstance(config, list):
        yield name, config
        for value in config:
            yield from _lists(value, name)


def _largest(value: object) -> int:
    return max((number for _, number in _numbers(value)), default=1)


def _too_many(shown: str, name: str, value: int, limit: int, what: str) -> ModelError:
    return ModelError(f"{shown} cannot be used: {name[:60]} is {value:,}, and its weights have at most {limit:,} "
                      f"{what}.")
