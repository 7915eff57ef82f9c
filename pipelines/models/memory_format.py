"""Networks as they run fastest: frozen, in their number format, their place, and convolutions laid out for a CPU.

A network is loaded in the format that its files have, which leaves it mapped: then one pass brings each weight into
its final format and layout, where a loader's conversion and a second pass for the layout would cost half as much again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import ModelError
from ..library.read.headers import Header
from ..machine.device import Placement
from .offload import in_eight_bits

if TYPE_CHECKING:
    import torch

# The networks with convolutions. Nothing in them has to stay in float32, as some layers of transformers have to.
CONVOLUTIONAL = ("unet", "vae")
FORMATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
INTEGERS = {"BOOL", "U8", "I8", "I16", "I32", "I64"}


def as_stored(part: str, headers: Iterable[Header], dtype: torch.dtype, prefix: str = "") -> torch.dtype:
    """The number format to load a network in: that of its files, or dtype where they mix formats or it stays as it is.

    prefix: of the network's tensors in a file that holds others too.
    """
    import torch

    found = {kind for header in headers for name, kind in header.dtypes.items() if name.startswith(prefix)} - INTEGERS
    if part not in CONVOLUTIONAL or len(found) != 1 or not found <= FORMATS.keys():
        return dtype
    return getattr(torch, FORMATS[found.pop()])


def settled(network: torch.nn.Module, part: str, shown: str, placement: Placement, dtype: torch.dtype, *,
            small: bool = False) -> torch.nn.Module:
    """Freeze a network and bring it into its number format, layout and place. Raises ModelError when it is not whole.

    shown: the file's name, for the error. small: whether its weights are kept in 8 bits; they are made so before they
    go to the device, which never has room for more.
    """
    if any(tensor.is_meta for tensor in network.parameters()):
        raise ModelError(f"{shown} cannot be used: it holds only a part of its {part}.")
    network.eval().requires_grad_(False)
    if part in CONVOLUTIONAL:
        # On a CPU the layout is worth a tenth of the time of a decode and, in bfloat16, of a U-Net step; on a card
        # nothing without compilation.
        _convert(network, dtype, turned=placement.device == "cpu")
    if small:
        in_eight_bits(network)
    return network.to(placement.home)


def _convert(network: torch.nn.Module, dtype: torch.dtype, *, turned: bool) -> None:
    """Give every weight its format; where turned, store convolutions as (out, height, width, in)."""
    import torch

    scratch: dict[torch.dtype, torch.Tensor] = {}
    weights = [tensor for tensor in network.state_dict(keep_vars=True).values() if tensor.is_floating_point()]
    for tensor in sorted(weights, key=lambda tensor: -tensor.numel()):
        if not turned or tensor.dim() != 4:
            tensor.data = tensor.data.to(dtype)
        elif tensor.dtype != dtype or _is_mapped(tensor.data):
            tensor.data = tensor.data.to(dtype, memory_format=torch.channels_last)
        else:
            tensor.data = _turned_in_place(tensor.data, scratch)


def _is_mapped(weight: torch.Tensor) -> bool:
    """Whether a weight may lie in its file, which nobody writes into: it is a part of something larger then."""
    return not weight.is_contiguous() or weight.untyped_storage().nbytes() != weight.nbytes


def _turned_in_place(weight: torch.Tensor, scratch: dict[torch.dtype, torch.Tensor]) -> torch.Tensor:
    """Turn a convolution in the memory that it has: a new tensor for each leaves gaps that are never given back.

    scratch: as many numbers as the largest weight, by their format; made for the first one.
    """
    import torch

    outer, inner, height, width = weight.shape
    if height * width > 1:
        if weight.dtype not in scratch:
            scratch[weight.dtype] = torch.empty_like(weight).view(-1)
        buffer = scratch[weight.dtype][:weight.numel()]
        buffer.view(outer, height, width, inner).copy_(weight.permute(0, 2, 3, 1))
        weight.view(-1).copy_(buffer)
    return weight.as_strided(weight.shape, (inner * height * width, 1, width * inner, inner))
