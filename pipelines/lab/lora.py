"""LoRA from the inside: a weight stays as it is, and a product of two thin matrices learns what is to change.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv:2106.09685), eq. 3:
    h = W x + (alpha / r) B A x,    A: (r, in), B: (out, r), B = 0 at the start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..adapters import delta as adapters
from ..adapters.delta import Part
from ..adapters.read import parts_of
from ..errors import RequestError
from .checkpoints import Model
from .data import TinySet
from .learner import loss_of

TARGETS = ("to_q", "to_k", "to_v", "to_out")  # of lab networks; diffusers puts to_out into a list: to_out.0
MAX_RANK = 64


class LowRank(nn.Module):
    """A linear layer with a low-rank change beside it. The base is frozen. scale 0 switches the change off."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float | None = None):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(torch.empty(rank, base.in_features, device=base.weight.device))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        self.scale = (alpha or rank) / rank

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * (x @ self.down.T.to(x) @ self.up.T.to(x))                      # eq. 3

    def change(self) -> Tensor:
        """What is added to the weight: (alpha / r) B A, (out, in)."""
        return self.scale * self.up @ self.down

    def merged(self) -> nn.Linear:
        """One ordinary layer that does the same."""
        base = self.base
        layer = nn.Linear(base.in_features, base.out_features, base.bias is not None).to(base.weight)
        with torch.no_grad():
            layer.weight.copy_(base.weight + self.change().to(base.weight))
            if base.bias is not None:
                layer.bias.copy_(base.bias)
        return layer


def inject(model: nn.Module, rank: int, alpha: float | None = None,
           targets: Sequence[str] = TARGETS) -> dict[str, LowRank]:
    """Put a LowRank in the place of each chosen linear layer and freeze all else; returns them by name.

    targets: last part of a layer's name, or of its list's. Raises RequestError when nothing fits. A rank beyond a
    layer's size is allowed, and shows that it costs more than the layer and can do no more.
    """
    chosen = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)
              and name.removesuffix(".0").rpartition(".")[2] in targets}
    if not chosen:
        raise RequestError("Targets: this model has no attention to put a LoRA into. Train one with the network "
                           "attention.", "targets")
    if not 1 <= rank <= MAX_RANK:
        raise RequestError(f"Rank: {rank} is not possible. Between 1 and {MAX_RANK}.", "rank")
    model.requires_grad_(False)
    layers = {name: LowRank(layer, rank, alpha) for name, layer in chosen.items()}
    for name, layer in layers.items():
        _put(model, name, layer)
    return layers


def remove(model: nn.Module, layers: Mapping[str, LowRank]) -> None:
    """Put the untouched base layers back."""
    for name, layer in layers.items():
        _put(model, name, layer.base)


@contextmanager
def merged(model: nn.Module, layers: Mapping[str, LowRank]) -> Iterator[None]:
    """Run meanwhile with the changes added into the weights, at no extra cost a step."""
    try:
        for name, layer in layers.items():
            _put(model, name, layer.merged())
        yield
    finally:
        for name, layer in layers.items():
            _put(model, name, layer)


def fit(model: Model, layers: Mapping[str, LowRank], tiny: TinySet, *, updates: int, batch_size: int = 32,
        learning_rate: float = 3e-3, seed: int = 1) -> Iterator[float]:
    """Train the low-rank layers alone, inside a model of the lab, on pictures of its size; yields the losses."""
    generator = torch.Generator("cpu").manual_seed(seed)
    weights = [weight for layer in layers.values() for weight in (layer.down, layer.up)]
    optimizer = torch.optim.AdamW(weights, learning_rate, weight_decay=0.0)
    device = weights[0].device
    for _ in range(updates):
        chosen = torch.randint(len(tiny), (batch_size,), generator=generator)
        context = tiny.contexts(chosen)
        loss = loss_of(model.network, model.schedule, model.prediction, "mse", tiny.pixels[chosen].to(device),
                       None if context is None else context.to(device), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield float(loss.detach())


@dataclass(frozen=True)
class Count:
    """Parameters: of the whole model as it was, and of what is trained."""

    base: int
    trained: int

    @property
    def share(self) -> float:
        return self.trained / self.base


def count(model: nn.Module, layers: Mapping[str, LowRank]) -> Count:
    """How small the change is: rank x (in + out) a layer instead of in x out (arXiv:2106.09685, sec. 4.2)."""
    trained = sum(layer.down.numel() + layer.up.numel() for layer in layers.values())
    return Count(sum(p.numel() for p in model.parameters()) - trained, trained)


def norms(layers: Mapping[str, LowRank]) -> dict[str, float]:
    """Size of the change by layer, as a share of the weight's: |(alpha / r) B A| / |W|, Frobenius."""
    return {name: float(layer.change().detach().norm() / layer.base.weight.norm()) for name, layer in layers.items()}


def norms_of_file(path: Path) -> dict[str, float]:
    """Size of the change by layer of any LoRA file, LoHa and LoKr too: Frobenius norm. Convolutions count as matrices.

    Raises ModelError for a file without any. Nothing in the file is executed.
    """
    return {layer: _norm(part) for layer, part in parts_of(path).items()}


def _norm(part: Part) -> float:
    if isinstance(part, adapters.LowRank) and part.mid is None:
        return abs(part.scale) * _norm_of_product(part.up.float().flatten(1), part.down.float().flatten(1))
    return float(part.delta().norm())


def _norm_of_product(up: Tensor, down: Tensor) -> float:
    """|B A| from two r x r matrices: |B A|^2 = trace(B^T B A A^T), so that nothing large is made."""
    return float(((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt())


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, layer)
