"""What is trained: a LoRA on a frozen base, or the U-Net itself; and its average over the steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..request import TrainLora
from .base_model import Base
from .lowrank import Adapter, attach


@dataclass(frozen=True)
class Trainee:
    """named: path -> parameter, in a stable order. groups: for the optimizer. adapter: None for the method full."""

    named: dict[str, nn.Parameter]
    groups: list[dict[str, Any]]
    adapter: Adapter | None

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.named.values())

    def set_training(self, on: bool) -> None:
        """Switch what training alone does: the LoRA's own dropout."""
        if self.adapter is not None:
            self.adapter.train(on)

    def weights(self) -> dict[str, Tensor]:
        """The weights themselves, not copies."""
        return {name: parameter.detach() for name, parameter in self.named.items()}

    def put(self, weights: dict[str, Tensor]) -> None:
        """Take other weights over, in place."""
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(weights[name])

    @contextmanager
    def showing(self, weights: dict[str, Tensor] | None) -> Iterator[None]:
        """Use other weights for a while, in the place of their own: the averaged ones, to draw or to export."""
        if weights is None:
            yield
            return
        own = self.weights()
        try:
            for name, parameter in self.named.items():
                parameter.data = weights[name].to(parameter.device, parameter.dtype)  # no copy where both are the same
            yield
        finally:
            for name, parameter in self.named.items():
                parameter.data = own[name]


def make(base: Base, config: TrainLora) -> Trainee:
    """Begin: a LoRA whose start follows from the seed and changes nothing yet, or the U-Net as it was loaded."""
    if config.method == "full":
        base.unet.requires_grad_(True)
        named = {f"unet.{name}": parameter for name, parameter in base.unet.named_parameters()}
        return Trainee(named, [{"params": list(named.values()), "lr": config.learning_rate}], None)
    scale = config.alpha / (math.sqrt(config.rank) if config.rslora else config.rank)
    adapter = attach(base.components, targets(base, config), rank=config.rank, scale=scale, dropout=config.dropout,
                     dora=config.dora, seed=config.seed)
    named = adapter.named()
    groups = []
    for lr, chosen in ((config.learning_rate, lambda name: name.startswith("unet.")),
                       (config.text_encoder_learning_rate, lambda name: not name.startswith("unet."))):
        members = [parameter for name, parameter in named.items() if chosen(name)]
        groups += [{"params": members, "lr": lr}] if members else []
    return Trainee(named, groups, adapter)


def targets(base: Base, config: TrainLora) -> dict[str, list[str]]:
    """Component -> patterns of the layers that a LoRA is added to."""
    lora = base.family.lora
    found = {"unet": [lora.targets[kind] for kind in config.targets.split("+")]}
    if config.text_encoder != "off":
        found |= {name: [lora.text_targets[kind] for kind in config.text_encoder.split("+")] for name in base.encoders}
    return found


class Average:
    """Exponential moving average of the weights, float32. decay 0 keeps none."""

    def __init__(self, decay: float, trainee: Trainee):
        self._decay, self._trainee = decay, trainee
        self.weights = self._copied() if decay else None

    def update(self, step: int) -> None:
        """Count in the weights after `step` updates; early on it forgets faster, or the start would never fade."""
        if self.weights is None:
            return
        decay = min(self._decay, (1 + step) / (10 + step))
        for name, parameter in self._trainee.weights().items():
            self.weights[name].lerp_(parameter, 1 - decay)

    def put(self, weights: dict[str, Tensor]) -> None:
        """Take another average over, in place."""
        for name, tensor in (self.weights or {}).items():
            tensor.copy_(weights[name])

    def restart(self) -> None:
        if self.weights is not None:
            self.weights = self._copied()

    def _copied(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self._trainee.weights().items()}
