"""Optimizers by name, and the course of the learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch

from ...errors import RequestError
from ..request import TrainLora

# name -> (package, class) of those that need one of their own
EXTRA = {"adamw8bit": ("bitsandbytes.optim", "AdamW8bit"), "prodigy": ("prodigyopt", "Prodigy")}


def make(config: TrainLora, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Build the optimizer over parameter groups with their own "lr"; raises RequestError for a missing package."""
    name, decay = config.optimizer, config.weight_decay
    groups = [{**group, "initial_lr": group["lr"]} for group in groups]
    if name == "adafactor":
        return torch.optim.Adafactor(groups, weight_decay=decay)
    if name in EXTRA:
        cls = _imported(name)
        extra = {"decouple": True, "use_bias_correction": True} if name == "prodigy" else {}
        return cls(groups, weight_decay=decay, **extra)
    # One call for hundreds of small tensors instead of hundreds.
    kinds = {parameter.device.type for group in groups for parameter in group["params"]}
    return torch.optim.AdamW(groups, weight_decay=decay, fused=kinds <= {"cpu", "cuda"})


def _imported(name: str) -> type[torch.optim.Optimizer]:
    import importlib

    module, cls = EXTRA[name]
    try:
        return getattr(importlib.import_module(module), cls)
    except ImportError:
        raise RequestError(f"Optimizer: {name!r} needs the package {module.split('.')[0]}, which is not installed.",
                           "optimizer") from None


def rate(config: TrainLora, step: int) -> float:
    """Factor of the learning rate for the update after `step` updates: warm-up, then the schedule; 0..1."""
    warmup = round(config.warmup * config.steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min(1.0, (step - warmup) / max(1, config.steps - warmup))
    if config.scheduler == "linear":
        return 1 - done
    if config.scheduler == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    if config.scheduler == "restarts":
        return 0.5 * (1 + math.cos(math.pi * (done * config.restarts % 1))) if done < 1 else 0.0
    return 1.0
