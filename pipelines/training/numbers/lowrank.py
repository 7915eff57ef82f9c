"""Low-rank additions to frozen layers: W x + scale B A x (Hu et al. 2021, arXiv:2106.09685, eq. 3).

A layer listens at a frozen module by a forward hook and adds to its output, so the base's own modules, names and
weights stay as they are, and taking the hook away leaves nothing behind. Its weights are float32 whatever the base's
format: in bfloat16 small updates would round away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ...models.components import Components


class LowRankLayer(nn.Module):
    """The addition to one Linear or Conv2d. down: (r, in) or (r, in, k, k); up: (out, r) or (out, r, 1, 1).

    With dora the rows of W + scale B A get their own lengths, `magnitude` (out,) (Liu et al. 2024, arXiv:2402.09353,
    eq. 5; their norm is held constant in the gradient, as its section 4.3 proposes).
    """

    def __init__(self, base: nn.Module, rank: int, scale: float, dropout: float, dora: bool,
                 generator: torch.Generator):
        super().__init__()
        weight = base.weight
        self.rank, self.scale, self._dropout = rank, scale, dropout
        self._base = (base,)  # in a tuple, so that it does not become a part of this module
        shape, up = (rank, *weight.shape[1:]), (weight.shape[0], rank, *[1] * (weight.dim() - 2))
        bound = weight[0].numel() ** -0.5
        down = torch.empty(shape).uniform_(-bound, bound, generator=generator)
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(torch.zeros(up, device=weight.device))
        self.magnitude = nn.Parameter(_lengths(weight.detach().float())) if dora else None
        self._hook = base.register_forward_hook(self._add)

    def forward(self, x: Tensor) -> Tensor:
        """scale B A x, in the output's shape."""
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(self.down.dtype)
        if self._dropout and self.training:
            x = nn.functional.dropout(x, self._dropout)
        # Scaled where there are only `rank` numbers to scale.
        if self.down.dim() == 2:
            return nn.functional.linear(self.scale * nn.functional.linear(x, self.down), self.up)
        base = self._base[0]
        inner = nn.functional.conv2d(x, self.down, None, base.stride, base.padding, base.dilation)
        return nn.functional.conv2d(self.scale * inner, self.up)

    def delta(self) -> Tensor:
        """scale B A, in the weight's shape, float32."""
        return (self.scale * self.up.flatten(1) @ self.down.flatten(1)).view(self._base[0].weight.shape)

    def detach(self) -> None:
        """Take the hook away: the base gives again what it gave before."""
        self._hook.remove()

    def _add(self, base: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        added = self(inputs[0])
        if self.magnitude is None:
            return output + added.to(output.dtype)
        factor = self.magnitude / _lengths(base.weight.float() + self.delta()).detach()
        bias = base.bias
        if output.dim() == 4:
            factor = factor[:, None, None]
            bias = None if bias is None else bias[:, None, None]
        plain = output if bias is None else output - bias
        changed = factor * (plain + added)
        return (changed if bias is None else changed + bias).to(output.dtype)


def _lengths(weight: Tensor) -> Tensor:
    return weight.flatten(1).norm(dim=1)


class Adapter(nn.Module):
    """All low-rank layers of a run. layers: path ("unet.mid_block...to_q") -> layer."""

    def __init__(self, layers: Mapping[str, LowRankLayer]):
        super().__init__()
        self.layers = dict(layers)
        self._all = nn.ModuleList(self.layers.values())  # train(), eval() and to() reach them through this

    def named(self) -> dict[str, nn.Parameter]:
        """path.down (.up, .magnitude) -> parameter, in a stable order."""
        return {f"{path}.{kind}": parameter for path, layer in self.layers.items()
                for kind, parameter in layer.named_parameters()}

    def detach(self) -> None:
        """Leave the base as it was."""
        for layer in self._all:
            layer.detach()


def target_paths(network: torch.nn.Module, patterns: Iterable[str]) -> list[str]:
    """Names of the Linear and Conv2d modules whose names end as a pattern says."""
    wanted = re.compile(f"({'|'.join(patterns)})$")
    return [name for name, module in network.named_modules()
            if wanted.search(name) and isinstance(module, nn.Linear | nn.Conv2d)]


def attach(components: Components, targets: Mapping[str, Iterable[str]], *, rank: int, scale: float,
           dropout: float, dora: bool, seed: int) -> Adapter:
    """Add layers to frozen components. targets: component -> patterns.

    The start values follow from the seed alone. Raises ValueError when a component has no such module.
    """
    generator = torch.Generator().manual_seed(seed)
    layers: dict[str, LowRankLayer] = {}
    for part, patterns in targets.items():
        network = components[part]
        paths = target_paths(network, patterns)
        if not paths:
            raise ValueError(f"{part} has no layer for a LoRA")
        for path in paths:
            layers[f"{part}.{path}"] = LowRankLayer(network.get_submodule(path), rank, scale, dropout, dora, generator)
    return Adapter(layers)
