"""Weights that do not fit on the device at once: they wait in host memory, by component or by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..machine.device import Placement

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from diffusers.hooks import ModelHook

# Modules that bring their input into the format of their weights, which would be the 8 bits.
READ_THEIR_WEIGHTS = ("encoder_hid_proj",)


def device_of(network: torch.nn.Module) -> torch.device:
    """Where a network computes, whether or not its weights are there at the moment."""
    hook = getattr(network, "_hf_hook", None)
    return getattr(hook, "execution_device", None) or network.device


@contextmanager
def offloaded(pipe: DiffusionPipeline, placement: Placement, home: str = "cpu") -> Iterator[None]:
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


@contextmanager
def in_place(pipe: DiffusionPipeline, placement: Placement, usual: Placement) -> Iterator[None]:
    """Bring weights that wait, or that are kept in 8 bits, to where and as what they compute, for gradients need both.

    placement: as the pipeline is leased. usual: how its weights lie before and afterwards.
    """
    waits = usual.offload != "none" and placement.offload == "none"
    packed = usual.weights == "8-bit" and not placement.weights
    if not (waits or packed):
        yield
        return
    networks = [part for part in pipe.components.values() if hasattr(part, "parameters")]
    casts = [(module, hook) for network in networks for module, hook in _casts(network)] if packed else []
    stored = [hook.storage_dtype for _, hook in casts]
    if usual.offload == "group":
        for network in networks:
            _not_by_layers(network)
    try:
        for network in networks:
            network.to(placement.device)
        for module, hook in casts:
            hook.storage_dtype = hook.compute_dtype
            module.to(hook.compute_dtype)
        yield
    finally:
        for (module, hook), dtype in zip(casts, stored, strict=True):
            hook.storage_dtype = dtype
            module.to(dtype)  # exact: that is where the numbers came from
        for network in networks:
            network.to(usual.home)
            if usual.offload == "group":
                by_layers(network, usual)


def _casts(network: torch.nn.Module) -> list[tuple[torch.nn.Module, ModelHook]]:
    """The modules whose weights are kept in fewer bits, with the library's hook that does it."""
    registries = ((module, getattr(module, "_diffusers_hook", None)) for module in network.modules())
    found = ((module, registry.get_hook("layerwise_casting")) for module, registry in registries if registry)
    return [(module, hook) for module, hook in found if hook]


def _not_by_layers(network: torch.nn.Module) -> None:
    """Undo `by_layers`."""
    from diffusers.hooks import HookRegistry

    registry = HookRegistry.check_if_exists_or_initialize(network)
    for name in ("group_offloading", "layer_execution_tracker", "lazy_prefetch_group_offloading"):
        registry.remove_hook(name, recurse=True)


def by_layers(network: torch.nn.Module, placement: Placement) -> None:
    """Let a network's layers come to the device one by one, the next while one computes. It stays that way."""
    import torch
    from diffusers.hooks import apply_group_offloading

    device = torch.device(placement.device)
    apply_group_offloading(network, onload_device=device, offload_device=torch.device("cpu"),
                           offload_type="leaf_level", use_stream=device.type == "cuda")


def in_eight_bits(network: torch.nn.Module) -> None:
    """Keep the weights of a network's layers in float8, and compute in its own number format."""
    import torch
    from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN

    network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=network.dtype,
                                     skip_modules_pattern=(*DEFAULT_SKIP_MODULES_PATTERN, *READ_THEIR_WEIGHTS))
