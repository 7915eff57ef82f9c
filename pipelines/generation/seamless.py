"""Pictures whose opposite edges fit together: convolutions look around the edge instead of past it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional as F


@contextmanager
def seamless(*modules: torch.nn.Module, x: bool, y: bool) -> Iterator[None]:
    """Pad every 3x3 convolution of `modules` around the x and/or y axis, and undo that on exit."""
    changed: list[torch.nn.Conv2d] = []
    try:
        if x or y:
            for module in modules:
                for layer in module.modules():
                    if isinstance(layer, torch.nn.Conv2d) and any(layer.padding):
                        layer._conv_forward = _wrapping(layer, x, y)  # an instance attribute hides the class's method
                        changed.append(layer)
        yield
    finally:
        for layer in changed:
            del layer._conv_forward


def _wrapping(layer: torch.nn.Conv2d, x: bool, y: bool) -> Any:
    rows, columns = layer.padding
    modes = {axis: "circular" if wrapped else "constant" for axis, wrapped in (("x", x), ("y", y))}

    def forward(pixels: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        pixels = F.pad(pixels, (columns, columns, 0, 0), mode=modes["x"])
        pixels = F.pad(pixels, (0, 0, rows, rows), mode=modes["y"])
        return F.conv2d(pixels, weight, bias, layer.stride, 0, layer.dilation, layer.groups)

    return forward
