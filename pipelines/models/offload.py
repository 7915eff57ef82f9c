"""Weights that do not fit on the device at once: they wait in host memory, by component or by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..machine.device import Placement


def device_of(network: Any) -> Any:
    """Where a network computes, whether or not its weights are there at the moment."""
    hook = getattr(network, "_hf_hook", None)
    return getattr(hook, "execution_device", None) or network.device


@contextmanager
def offloaded(pipe: Any, placement: Placement, home: str = "cpu") -> Iterator[None]:
    """Let a pipeline's components come to the device one after the other, when "model" asks for it.

    home: where they are afterwards.
    """
    if placement.offload != "model":
        yield
        return
    pipe.enable_model_cpu_offload(device=placement.device)
    try:
        yield
    finally:
        pipe.remove_all_hooks()
        for part in pipe.components.values():
            if hasattr(part, "parameters"):
                part.to(home)


def by_layers(network: Any, placement: Placement) -> None:
    """Let a network's layers come to the device one by one, the next while one computes. It stays that way."""
    import torch
    from diffusers.hooks import apply_group_offloading

    device = torch.device(placement.device)
    apply_group_offloading(network, onload_device=device, offload_device=torch.device("cpu"),
                           offload_type="leaf_level", use_stream=device.type == "cuda")


def in_eight_bits(network: Any) -> None:
    """Keep the weights of a network's layers in float8, and compute in its own number format."""
    import torch

    network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=network.dtype)
