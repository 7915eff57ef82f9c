"""Adapters on a pipeline for as long as a `with` lasts: beside the weights (`applied`) or in them (`merged`).

Beside means: the layer runs as ever, and a hook adds weight * scale * up(down(x)) to its output. The model's own
tensors are not written to, so nothing has to be computed back (fusing and unfusing is not exact), another weight is
another number, and several adapters add up, each from the base weight.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from . import layer_names
from .delta import LowRank, Part, change, gain, is_by_row
from .read import Adapter

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

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
        return tuple(line for adapter in self.adapters for line in adapter.lines)


@dataclass(eq=False)
class _Sum:
    """The hook of one layer: adds what its parts change to what the layer gave."""

    path: str
    parts: list[tuple[Weights, _Factored | _Whole | _Same | _Bias]] = field(default_factory=list)

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        total = output
        for weights, part in self.parts:
            if weight := weights.of(self.path):
                total = part.add(total, module, args[0], output, weight)
        return total


@contextmanager
def applied(pipe: DiffusionPipeline, uses: Uses) -> Iterator[Report]:
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
                for path, beside in _beside(adapter, modules):
                    if path not in sums:
                        sums[path] = _Sum(path)
                        hooks.callback(modules[path].register_forward_hook(sums[path]).remove)
                    sums[path].parts.append((weights, beside))
        yield report


@contextmanager
def merged(pipe: DiffusionPipeline, uses: Uses) -> Iterator[Report]:
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
        for path in dict.fromkeys(path for adapter in report.adapters for path in adapter.biases):
            shift = sum(weights.of(path) * adapter.biases[path].float() for adapter, weights
                        in zip(report.adapters, report.weights, strict=True) if path in adapter.biases)
            kept.enter_context(_bias_changed(modules[path], shift))
        yield report


@contextmanager
def _bias_changed(module: nn.Module, shift: Tensor) -> Iterator[None]:
    """Add to a bias for a while; a layer without one has the change as its bias meanwhile."""
    original, weight = module.bias, module.weight
    whole = shift.to(weight.device) if original is None else original.data.float() + shift.to(weight.device)
    module.bias = nn.Parameter(whole.to(weight.dtype), requires_grad=False)
    try:
        yield
    finally:
        module.bias = original


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


class _Same:
    """A change of a layer that is neither linear nor a convolution: its output is linear in its weight all the same, so
    the change of the output is what the layer gives with the change as its weight."""

    def __init__(self, part: Part, module: nn.Module):
        self._layer = copy.copy(module)
        self._change = change(part, module.weight).to(module.weight.dtype)

    def add(self, total: Tensor, module: nn.Module, x: Tensor, base: Tensor, weight: float) -> Tensor:
        moved = self._change.to(x.device)
        self._layer._parameters = {**dict.fromkeys(module._parameters), "weight": moved}
        # Not called: the copy has the hooks of the original, which would call this one again.
        return torch.add(total, type(module).forward(self._layer, x), alpha=weight)


class _Bias:
    """What is added to a layer's bias."""

    def __init__(self, bias: Tensor, module: nn.Module):
        like = module.weight
        shaped = bias if module.weight.ndim < 4 and not isinstance(module, nn.GroupNorm) else bias[:, None, None]
        self._bias = shaped.to(like.device, like.dtype if _is_wide(like) else None)

    def add(self, total: Tensor, module: nn.Module, x: Tensor, base: Tensor, weight: float) -> Tensor:
        return total + weight * self._bias.to(total)


def _beside(adapter: Adapter, modules: Mapping[str, nn.Module]) -> Iterator[
        tuple[str, _Factored | _Whole | _Same | _Bias]]:
    """What goes beside each layer; a layer may have two."""
    for path, part in adapter.parts.items():
        module = modules[path]
        # A magnitude a column scales the input: not to be had from the layer's output.
        factored = isinstance(part, LowRank) and (part.dora_scale is None or is_by_row(part.dora_scale))
        plain = isinstance(module, (nn.Linear, nn.Conv2d))
        kind = _Same if not plain else _Factored if factored else _Whole
        yield path, kind(part, module)
    for path, bias in adapter.biases.items():
        yield path, _Bias(bias, modules[path])


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


def _checked(pipe: DiffusionPipeline, uses: Uses) -> dict[str, nn.Module]:
    modules = layer_names.modules(pipe)
    for adapter, *_ in uses:
        fitting = {path: path in modules and part.fits(layer_names.weight_shape(modules[path]))
                   for path, part in adapter.parts.items()}
        fitting |= {path: path in modules and layer_names.weight_shape(modules[path])[0] == len(bias)
                    and fitting.get(path, True) for path, bias in adapter.biases.items()}
        for path, fits in fitting.items():
            if not fits:
                raise ModelError(f"{adapter.name[:80]} was read for another model: {path[:120]} does not fit.")
    return modules
