"""Adapters on a pipeline for as long as a `with` lasts: beside the weights (`applied`) or in them (`merged`).

Beside means: the layer runs as ever, and a hook adds weight * scale * up(down(x)) to its output. The model's own
tensors are not written to, so nothing has to be computed back (fusing and unfusing is not exact), another weight is
another number, and several adapters add up, each from the base weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from . import layer_names
from .delta import LowRank, Part, change, gain, is_by_row
from .read import Adapter

Uses = Sequence[tuple[Adapter, float, float]]


@dataclass
class Weights:
    """The strengths of one attached adapter; the hooks read them at every call."""

    unet: float
    text_encoder: float

    def of(self, path: str) -> float:
        return self.unet if path.split(".", 1)[0] in layer_names.CORES else self.text_encoder


@dataclass(frozen=True)
class Report:
    """What is attached. adapters and weights: in the order of the uses; change a weight and the next call has it."""

    adapters: tuple[Adapter, ...]
    weights: tuple[Weights, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        return tuple(adapter.line for adapter in self.adapters)


@dataclass(eq=False)
class _Sum:
    """The hook of one layer: adds what its parts change to what the layer gave."""

    path: str
    parts: list[tuple[Weights, _Factored | _Whole]] = field(default_factory=list)

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        total = output
        for weights, part in self.parts:
            if weight := weights.of(self.path):
                total = part.add(total, module, args[0], output, weight)
        return total


@contextmanager
def applied(pipe: Any, uses: Uses) -> Iterator[Report]:
    """Attach adapters beside the weights: (adapter, U-Net weight, text encoder weight) each; 0 leaves a half out.

    On exit, also by an exception, hooks and copies are gone and the pipeline is what it was. Raises ModelError when
    an adapter was read for a model with other layers.
    """
    modules = _checked(pipe, uses)
    report = Report(tuple(adapter for adapter, _, _ in uses), tuple(Weights(unet, te) for _, unet, te in uses))
    sums: dict[str, _Sum] = {}
    with ExitStack() as hooks:
        with torch.no_grad():  # left before the yield: whoever resumes may be another thread
            for adapter, weights in zip(report.adapters, report.weights, strict=True):
                for path, part in adapter.parts.items():
                    if path not in sums:
                        sums[path] = _Sum(path)
                        hooks.callback(modules[path].register_forward_hook(sums[path]).remove)
                    sums[path].parts.append((weights, _beside(part, modules[path])))
        yield report


@contextmanager
def merged(pipe: Any, uses: Uses) -> Iterator[Report]:
    """Add the changes to the weights for a while: no cost a step, but a second copy of every changed weight.

    The tensors that were there are kept aside and put back, the very same ones.
    """
    modules = _checked(pipe, uses)
    report = Report(tuple(adapter for adapter, _, _ in uses), tuple(Weights(unet, te) for _, unet, te in uses))
    with ExitStack() as kept:
        for path in dict.fromkeys(path for adapter in report.adapters for path in adapter.parts):
            weight = modules[path].weight
            if not _is_wide(weight):
                raise ModelError("A LoRA is merged into whole weights, and this model's are kept in fewer bits. Start "
                                 "with --quantize none for that.")
            original = weight.data
            total = original.float()
            for adapter, weights in zip(report.adapters, report.weights, strict=True):
                if path in adapter.parts and weights.of(path):
                    total = total + weights.of(path) * change(adapter.parts[path], original)
            kept.callback(setattr, weight, "data", original)
            weight.data = torch.empty_like(original).copy_(total)
        yield report


class _Factored:
    """A low-rank part on its layer's device, in its layer's number format."""

    def __init__(self, part: LowRank, module: nn.Module):
        like = module.weight
        is_linear = isinstance(module, nn.Linear)

        def placed(factor: Tensor | None) -> Tensor | None:
            if factor is None:
                return None
            shaped = factor.flatten(1) if is_linear else factor.reshape(*factor.shape, *[1] * (4 - factor.ndim))
            return shaped.to(like.device, like.dtype if _is_wide(like) else None)

        self._down, self._mid, self._up = placed(part.down), placed(part.mid), placed(part.up)
        self._scale = part.scale
        # (out, 1, 1) goes along the channels of a picture, (out,) along the last axis.
        self._gain = None
        if part.dora_scale is not None:
            factor = gain(part, _whole(module)).to(like.device, like.dtype if _is_wide(like) else None)
            self._gain = factor if is_linear else factor[:, None, None]

    def add(self, total: Tensor, module: nn.Module, x: Tensor, base: Tensor, weight: float) -> Tensor:
        """total + weight * the change of the output for x; base: what the layer alone gave for it."""
        down, up = self._down.to(x), self._up.to(x)
        if isinstance(module, nn.Linear):
            inner = F.linear(x, down)
            if self._gain is None:  # one pass over the output for product and sum
                return torch.addmm(total.flatten(0, -2), inner.flatten(0, -2), up.t(),
                                   alpha=weight * self._scale).view_as(total)
            shift = F.linear(inner, up)
        else:
            shift = F.conv2d(_convolved(module, x, down, None if self._mid is None else self._mid.to(x)), up)
        if self._gain is None:
            return torch.add(total, shift, alpha=weight * self._scale)
        return total + weight * _directed(base, shift * self._scale, self._gain.to(x), module)


class _Whole:
    """Any other part, as the whole change of the weight."""

    def __init__(self, part: Part, module: nn.Module):
        weight = module.weight
        self._change = change(part, _whole(module)).to(weight.dtype if _is_wide(weight) else torch.bfloat16)

    def add(self, total: Tensor, module: nn.Module, x: Tensor, base: Tensor, weight: float) -> Tensor:
        delta = self._change.to(x)
        shift = F.linear(x, delta) if isinstance(module, nn.Linear) else _same_convolution(module, x, delta)
        return torch.add(total, shift, alpha=weight)


def _beside(part: Part, module: nn.Module) -> _Factored | _Whole:
    # A magnitude a column scales the input: not to be had from the layer's output.
    factored = isinstance(part, LowRank) and (part.dora_scale is None or is_by_row(part.dora_scale))
    return _Factored(part, module) if factored else _Whole(part, module)


def _is_wide(weight: Tensor) -> bool:
    """Whether a weight has a number format that can be computed with."""
    return weight.is_floating_point() and weight.element_size() > 1


def _whole(module: nn.Module) -> Tensor:
    """A layer's weight; unpacked where it is kept in 4 bits."""
    state = getattr(module.weight, "quant_state", None)
    if state is None:
        return module.weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(module.weight.data, state).reshape(layer_names.weight_shape(module))


def _directed(base: Tensor, shift: Tensor, factor: Tensor, module: nn.Module) -> Tensor:
    """Change of the output when the rows of weight + delta get new lengths: (factor - 1) W x + factor * delta x."""
    bias = 0.0 if module.bias is None else module.bias.to(base)
    if module.bias is not None and isinstance(module, nn.Conv2d):
        bias = bias[:, None, None]
    return (factor - 1) * (base - bias) + factor * shift


def _convolved(module: nn.Conv2d, x: Tensor, down: Tensor, mid: Tensor | None) -> Tensor:
    """x (b, in, h, w) -> (b, r, h', w'): the kernel is in mid where there is one (CP), else in down."""
    if mid is None:
        return _same_convolution(module, x, down)
    return _same_convolution(module, F.conv2d(x, down), mid)


def _same_convolution(module: nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    """Convolve as the layer does, which may look around the edges (seamless.py), with another weight, without bias."""
    return module._conv_forward(x, weight, None)


def _checked(pipe: Any, uses: Uses) -> dict[str, nn.Module]:
    modules = layer_names.layers(pipe)
    for adapter, *_ in uses:
        for path, part in adapter.parts.items():
            if path not in modules or not part.fits(layer_names.weight_shape(modules[path])):
                raise ModelError(f"{adapter.name[:80]} was read for another model: {path[:120]} does not fit.")
    return modules
