"""What an adapter holds for one layer, and the change of the layer's weight that it stands for.

Every part knows `delta()`: the change at strength 1 in float32, alpha and rank included. A weight is (out, in) of a
linear layer or (out, in, kh, kw) of a convolution. alpha / rank is the scale that all programs use
(kohya-ss/sd-scripts, networks/lora.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LowRank:
    """LoRA (Hu et al. 2021, arXiv:2106.09685), LoCon, and with dora_scale DoRA (Liu et al. 2024, arXiv:2402.09353).

    down: (r, in[, kh, kw]). up: (out, r[, 1, 1]). mid: (r, r, kh, kw) of a CP-decomposed convolution, whose down is
    1x1. dora_scale: magnitudes, (out, 1[, 1, 1]) a row or (1, in[, 1, 1]) a column.
    """

    down: Tensor
    up: Tensor
    alpha: float
    mid: Tensor | None = None
    dora_scale: Tensor | None = None

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def delta(self) -> Tensor:
        up, down = self.up.float().flatten(1), self.down.float()
        if self.mid is not None:
            return self.scale * torch.einsum("or,rskl,si->oikl", up, self.mid.float(), down.flatten(1))
        return self.scale * (up @ down.flatten(1)).reshape(len(up), *down.shape[1:])

    def fits(self, shape: torch.Size) -> bool:
        """Whether it changes a weight of that shape; 1x1 convolutions and linear layers are one."""
        factors = [self.down, self.up] + ([] if self.mid is None else [self.mid])
        kernel = tuple((self.down if self.mid is None else self.mid).shape[2:])
        return (all(tensor.ndim in (2, 4) for tensor in factors)
                and tuple(self.up.shape[:2]) == (shape[0], self.rank) and _is_point(self.up)
                and self.down.shape[1] == shape[1] and (self.mid is None or _is_point(self.down))
                and (self.mid is None or tuple(self.mid.shape[:2]) == (self.rank, self.rank))
                and (kernel or (1, 1)) == (tuple(shape[2:]) or (1, 1)))


@dataclass(frozen=True, eq=False)
class Hadamard:
    """LoHa (Hyeon-Woo et al. 2021, arXiv:2108.06098): (w1_a w1_b) * (w2_a w2_b), element by element.

    w*_a: (out, r). w*_b: (r, in * kh * kw). With t* (r, r, kh, kw): w*_a is (r, out), w*_b is (r, in).
    """

    w1_a: Tensor
    w1_b: Tensor
    w2_a: Tensor
    w2_b: Tensor
    alpha: float
    t1: Tensor | None = None
    t2: Tensor | None = None
    dora_scale: Tensor | None = None

    @property
    def rank(self) -> int:
        return self.w1_b.shape[0]

    def delta(self) -> Tensor:
        return self.alpha / self.rank * _product(self.w1_a, self.w1_b, self.t1) * _product(
            self.w2_a, self.w2_b, self.t2)

    def fits(self, shape: torch.Size) -> bool:
        return _has_shape(self, shape)


@dataclass(frozen=True, eq=False)
class Kronecker:
    """LoKr (KohakuBlueleaf/LyCORIS, docs/Algo-Details.md): w1 (x) w2, each whole or a product of two factors.

    alpha counts only where there is a factored one; rank: of that one, else 1.
    """

    w1: tuple[Tensor, ...]
    w2: tuple[Tensor, ...]
    alpha: float
    t2: Tensor | None = None
    dora_scale: Tensor | None = None

    @property
    def rank(self) -> int:
        # The second one's rank is what LyCORIS divides by when both are factored.
        return next((factors[1].shape[0] for factors in (self.w2, self.w1) if len(factors) == 2), 1)

    def delta(self) -> Tensor:
        w1 = _product(*self.w1) if len(self.w1) == 2 else self.w1[0].float()
        w2 = _product(*self.w2, self.t2) if len(self.w2) == 2 else self.w2[0].float()
        scale = self.alpha / self.rank if len(self.w1) + len(self.w2) > 2 else 1.0
        return scale * torch.kron(w1.reshape(*w1.shape, *[1] * (w2.ndim - w1.ndim)), w2)

    def fits(self, shape: torch.Size) -> bool:
        return _has_shape(self, shape)


@dataclass(frozen=True, eq=False)
class Full:
    """A whole difference of weights. rank is that of the layer, and alpha the same."""

    diff: Tensor
    alpha: float = 1.0
    dora_scale: Tensor | None = None

    @property
    def rank(self) -> int:
        return min(self.diff.shape[0], self.diff[0].numel())

    def delta(self) -> Tensor:
        return self.diff.float()

    def fits(self, shape: torch.Size) -> bool:
        return _has_shape(self, shape)


Part = LowRank | Hadamard | Kronecker | Full


def change(part: Part, weight: Tensor) -> Tensor:
    """What the part adds to that weight at strength 1: float32, of the weight's shape, on its device."""
    delta = part.delta().to(weight.device).reshape(weight.shape)
    if part.dora_scale is None:
        return delta
    base = weight.float()
    whole = base + delta
    return whole * (part.dora_scale.to(whole) / _norms(whole, part.dora_scale)) - base


def gain(part: LowRank, weight: Tensor) -> Tensor:
    """DoRA's factor for each output, (out,) float32: magnitude / norm of the row of weight + delta."""
    whole = weight.float() + part.delta().to(weight.device).reshape(weight.shape)
    return (part.dora_scale.to(whole) / _norms(whole, part.dora_scale)).flatten()


def is_by_row(dora_scale: Tensor) -> bool:
    """Whether there is a magnitude for each output (as in the paper and in peft), or one for each input."""
    return dora_scale.shape[1] == 1


def _norms(whole: Tensor, dora_scale: Tensor) -> Tensor:
    """Length of each row or column of a weight, in the shape of dora_scale; never 0, which makes no direction."""
    axis = 0 if is_by_row(dora_scale) else 1
    return whole.transpose(0, axis).flatten(1).norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny).reshape(
        dora_scale.shape)


def _product(a: Tensor, b: Tensor, core: Tensor | None = None) -> Tensor:
    a, b = a.float(), b.float()
    return a @ b if core is None else torch.einsum("rskl,ro,si->oikl", core.float(), a, b)


def _has_shape(part: Hadamard | Kronecker | Full, shape: torch.Size) -> bool:
    """Whether delta() would work and fill a weight of that shape; computed without numbers."""
    names = {name: value for name, value in vars(part).items() if name not in ("alpha", "dora_scale")}
    bare = {name: tuple(factor.to("meta") for factor in value) if isinstance(value, tuple)
            else None if value is None else value.to("meta") for name, value in names.items()}
    try:
        delta = type(part)(**bare, alpha=1.0).delta()
    except (RuntimeError, ValueError, IndexError):  # factors that do not go together
        return False
    return delta.ndim >= 2 and delta.shape[0] == shape[0] and math.prod(delta.shape) == math.prod(shape)


def _is_point(tensor: Tensor) -> bool:
    return math.prod(tensor.shape[2:]) == 1
