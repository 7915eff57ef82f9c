"""What an adapter holds for one layer, and the change of the layer's weight that it stands for.

Every part knows its change at strength 1 in float32, alpha and rank included: `delta()`, or `delta_of(weight)` where it
depends on the weight. A weight is (out, in) of a linear layer or (out, in, kh, kw) of a convolution. alpha / rank is
the scale that all programs use (kohya-ss/sd-scripts, networks/lora.py).
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
        first = _product_shape(self.w1_a, self.w1_b, self.t1)
        return first is not None and first == _product_shape(self.w2_a, self.w2_b, self.t2) and _fills(first, shape)


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

    @property
    def is_whole(self) -> bool:
        """Whether neither is a product."""
        return len(self.w1) + len(self.w2) == 2

    def delta(self) -> Tensor:
        w1 = _product(*self.w1) if len(self.w1) == 2 else self.w1[0].float()
        w2 = _product(*self.w2, self.t2) if len(self.w2) == 2 else self.w2[0].float()
        scale = 1.0 if self.is_whole else self.alpha / self.rank
        # torch.kron takes only tensors whose axes lie in order, which an einsum's need not.
        return scale * torch.kron(w1.reshape(*w1.shape, *[1] * (w2.ndim - w1.ndim)), w2.contiguous())

    def fits(self, shape: torch.Size) -> bool:
        w1 = _product_shape(*self.w1) if len(self.w1) == 2 else tuple(self.w1[0].shape)
        w2 = _product_shape(*self.w2, self.t2) if len(self.w2) == 2 else tuple(self.w2[0].shape)
        if w1 is None or w2 is None or not 2 <= len(w1) <= len(w2):
            return False
        w1 = (*w1, *[1] * (len(w2) - len(w1)))
        return _fills(tuple(a * b for a, b in zip(w1, w2, strict=True)), shape)


@dataclass(frozen=True, eq=False)
class Full:
    """A whole difference of weights, of a norm's too. rank is that of the layer, and alpha the same."""

    diff: Tensor
    alpha: float = 1.0
    dora_scale: Tensor | None = None

    @property
    def rank(self) -> int:
        return min(self.diff.shape[0], self.diff[0].numel())

    def delta(self) -> Tensor:
        return self.diff.float()

    def fits(self, shape: torch.Size) -> bool:
        return self.diff.ndim > 0 and _fills(tuple(self.diff.shape), shape)


@dataclass(frozen=True, eq=False)
class Rescaled:
    """IA3 (Liu et al. 2022, arXiv:2205.05638): every row or column of the weight W times 1 + factor.

    factor: (out, 1) or (1, in).
    """

    factor: Tensor
    alpha: float = 1.0
    dora_scale: Tensor | None = None
    rank = 1

    def delta_of(self, weight: Tensor) -> Tensor:
        factor = self.factor.float().to(weight.device)
        return weight * factor.reshape(*factor.shape, *[1] * (weight.ndim - 2))

    def fits(self, shape: torch.Size) -> bool:
        return len(shape) > 1 and tuple(self.factor.shape) in ((shape[0], 1), (1, shape[1]))


@dataclass(frozen=True, eq=False)
class Generalised:
    """GLoRA (Chavan et al. 2023, arXiv:2306.07967): W a + b, each a product of two factors.

    Two orders are in use: W a1 a2 + b1 b2 with a1 (in, r), a2 (r, in), b1 (out, r), b2 (r, in); and, written before,
    W a2 a1 + b2 b1 with all four turned round. Shapes tell which; of a square layer the newer is meant, unless its
    ranks go together the other way alone.
    """

    a1: Tensor
    a2: Tensor
    b1: Tensor
    b2: Tensor
    alpha: float = 1.0
    dora_scale: Tensor | None = None

    @property
    def rank(self) -> int:
        return min(self.b1.shape[:2])

    def _ordered(self) -> tuple[Tensor, ...]:
        a1, a2, b1, b2 = (factor.float().flatten(1) for factor in (self.a1, self.a2, self.b1, self.b2))
        return (a1, a2, b1, b2) if a1.shape[0] >= a1.shape[1] else (a2, a1, b2, b1)

    def delta_of(self, weight: Tensor) -> Tensor:
        a1, a2, b1, b2 = (factor.to(weight.device) for factor in self._ordered())
        turned = torch.einsum("oi...,ij->oj...", weight, a1 @ a2)
        return self.alpha / self.rank * (turned + (b1 @ b2).reshape(weight.shape))

    def fits(self, shape: torch.Size) -> bool:
        if any(factor.ndim not in (2, 4) for factor in (self.a1, self.a2, self.b1, self.b2)) or len(shape) < 2:
            return False
        a1, a2, b1, b2 = self._ordered()
        inner = a1.shape[1] == a2.shape[0] and b1.shape[1] == b2.shape[0]
        return (inner and (a1.shape[0], a2.shape[1]) == (shape[1], shape[1]) and b1.shape[0] == shape[0]
                and b2.shape[1] == math.prod(shape[1:]))


Part = LowRank | Hadamard | Kronecker | Full | Rescaled | Generalised


def change(part: Part, weight: Tensor) -> Tensor:
    """What the part adds to that weight at strength 1: float32, of the weight's shape, on its device."""
    base = weight.float()
    delta = part.delta_of(base) if hasattr(part, "delta_of") else part.delta().to(weight.device)
    delta = delta.reshape(weight.shape)
    if part.dora_scale is None:
        return delta
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


def _product_shape(a: Tensor, b: Tensor, core: Tensor | None = None) -> tuple[int, ...] | None:
    """The shape of `_product`; None for factors that do not go together."""
    if a.ndim != 2 or b.ndim != 2:
        return None
    if core is None:
        return (a.shape[0], b.shape[1]) if a.shape[1] == b.shape[0] else None
    if core.ndim != 4 or tuple(core.shape[:2]) != (a.shape[0], b.shape[0]):
        return None
    return (a.shape[1], b.shape[1], *core.shape[2:])


def _fills(delta: tuple[int, ...], shape: torch.Size) -> bool:
    """Whether a change of that shape is one of a weight of the other: kernels may be laid out in a row."""
    return delta[0] == shape[0] and math.prod(delta) == math.prod(shape)


def _is_point(tensor: Tensor) -> bool:
    return math.prod(tensor.shape[2:]) == 1
