"""Optimizers by name, and the course of the learning rate as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

from ...errors import RequestError
from ..request import TrainLora

# name -> (package, class) of those that need one of their own
EXTRA = {"adamw8bit": ("bitsandbytes.optim", "AdamW8bit"), "prodigy": ("prodigyopt", "Prodigy")}

STATES = {"sgd": 0, "adamw": 2, "prodigy": 4}  # tensors of a weight's own size that are kept of it
BLOCK = 256  # values that share one float32 scale in bitsandbytes' 8-bit states


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


def state_bytes(name: str, weights: Iterable[torch.Tensor]) -> int:
    """What an optimizer remembers of weights from its first step on.

    adamw: two moments of each weight, in its format (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1). adamw8bit: one
    byte a moment and a scale for each 256 (Dettmers et al. 2022, arXiv:2110.02861, sec. 2). adafactor: a row and a
    column of each matrix (Shazeer & Stern 2018, arXiv:1804.04235, algorithm 4). prodigy: two moments, the start and a
    sum of gradients (Mishchenko & Defazio 2023, arXiv:2306.06101, algorithm 4).
    """
    weights = list(weights)
    whole = sum(weight.numel() * weight.element_size() for weight in weights)
    if name == "adafactor":
        return sum(4 * (w.numel() // w.shape[-1] + w.numel() // w.shape[-2] if w.ndim > 1 else w.numel())
                   for w in weights)
    if name == "adamw8bit":
        return round(2 * sum(weight.numel() for weight in weights) * (1 + 4 / BLOCK))
    return STATES[name] * whole


def _imported(name: str) -> Any:
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
