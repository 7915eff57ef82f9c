"""Weights of linear layers in four bits each, by bitsandbytes (Dettmers et al. 2023, arXiv:2305.14314: NF4).

Convolutions, norms and biases stay as they are. The package is optional: its wheel is large, and few need it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PACKAGE = "bitsandbytes"


def is_installed() -> bool:
    """Whether the package is here; it is not imported."""
    return find_spec(PACKAGE) is not None


def in_four_bits(network: torch.nn.Module, dtype: torch.dtype) -> None:
    """Prepare a network's linear layers: the next `.to(device)` packs them, one after the other.

    dtype: of the arithmetic. Until then, and for a moment at each layer, both forms are in memory.
    """
    import bitsandbytes
    from torch import nn

    for path, layer in list(network.named_modules()):
        if type(layer) is not nn.Linear:
            continue
        packed = bitsandbytes.nn.Linear4bit(layer.in_features, layer.out_features, bias=False, compute_dtype=dtype,
                                            quant_type="nf4", device="meta")
        packed.weight = bitsandbytes.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4",
                                                   module=packed)
        packed.bias = layer.bias
        # On a CPU it would else pack the weights anew at the first call, in a form for some sizes of layers alone, that
        # neither LoRAs nor a card can read.
        packed.support_avx512bf16_for_cpu = False
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, packed.eval())
