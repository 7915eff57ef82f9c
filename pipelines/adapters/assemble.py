"""The tensors that a file has for one layer -> the part that they make up, checked against the layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from ..library.read import lora_keys
from . import layer_names
from .alphas import Alphas
from .delta import Full, Generalised, Hadamard, Kronecker, LowRank, Part, Rescaled


def part_of(shown: str, layer: str, held: dict[str, Tensor], module: nn.Module,
            alphas: Alphas) -> tuple[Part | None, Tensor | None]:
    """Build the part of one layer and what is added to its bias, and check that they fit; either may be None.

    Raises ModelError for a layer that is not whole or of another shape.
    """
    alpha = held.pop("alpha", None)
    dora_scale, magnitude = held.pop("dora_scale", None), held.pop("magnitude", None)
    shape = layer_names.weight_shape(module)
    biases = {role: held.pop(role) for role in lora_keys.BIASES if role in held}
    if any(tuple(bias.shape) != shape[:1] for bias in biases.values()):
        given = ", ".join(sizes_of(bias) for bias in biases.values())
        raise unusable(shown, f"it is made for a model of other sizes. The bias of {shortened(layer)} has {shape[0]} "
                              f"numbers here, and the file has {given}")
    if not held and biases and "up_bias" not in biases:
        return None, sum(biases.values())
    for role in ("down", "diff") if layer == "unet.conv_in" else ():
        if role in held:
            held[role] = _for_more_channels(held[role], shape)
    part = assembled(held)
    if part is None or (alpha is not None and alpha.numel() != 1):
        raise unusable(shown, f"{shortened(layer)} is not whole: it has {', '.join(sorted(held))[:120]}")
    if not part.fits(shape) or getattr(module, "groups", 1) != 1:
        sizes = ", ".join(f"{role} {sizes_of(tensor)}" for role, tensor in held.items())
        raise unusable(shown, f"it is made for a model of other sizes. {shortened(layer)} is "
                               f"{'x'.join(map(str, shape))} here, and the file has {sizes[:160]}")
    value = float(alpha) if alpha is not None else alphas.of(layer, part.rank)
    if magnitude is not None:  # peft's, which has one for each output
        dora_scale = magnitude.reshape(-1, 1)
    if dora_scale is not None:
        dora_scale = _dora(shown, layer, dora_scale, shape)
    if isinstance(part, Kronecker) and part.is_whole and alpha is None:
        part = replace(part, w1=(part.w1[0].float() * alphas.of_whole,))
    # No alpha means a scale of 1.
    part = replace(part, alpha=part.rank if value is None else value, dora_scale=dora_scale)
    if "up_bias" in biases:  # of the second factor, and so scaled as that is
        biases["up_bias"] = biases["up_bias"] * part.alpha / part.rank
    return part, sum(biases.values()) if biases else None


def assembled(held: Mapping[str, Tensor]) -> Part | None:
    """The kind of part that the roles make up; None when one is missing. alpha and dora_scale are still to be set."""
    short = {role.split("_", 1)[-1]: tensor for role, tensor in held.items()}
    if {"down", "up"} <= held.keys():
        return LowRank(held["down"], held["up"], 1.0, mid=held.get("mid"))
    if {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"} <= held.keys():
        return Hadamard(**short, alpha=1.0)
    if "diff" in held or "w_norm" in held:
        return Full(held.get("diff", held.get("w_norm")))
    if set(lora_keys.GLORA) <= held.keys():
        return Generalised(*(held[name] for name in lora_keys.GLORA))
    if "ia3_l" in held:  # peft multiplies by it; that of a convolution's outputs is (1, out, 1, 1)
        factor = held["ia3_l"]
        return Rescaled((factor if factor.ndim == 2 else factor.reshape(-1, 1)) - 1)
    if "ia3_w" in held:
        by_input = bool(held["on_input"].any())
        return Rescaled(held["ia3_w"].reshape((1, -1) if by_input else (-1, 1)))
    w1, w2 = (tuple(short[name] for name in ((w,) if w in short else (f"{w}_a", f"{w}_b")) if name in short)
              for w in ("w1", "w2"))
    whole = [len(factors) == (1 if w in short else 2) for w, factors in (("w1", w1), ("w2", w2))]
    return Kronecker(w1, w2, 1.0, short.get("t2")) if all(whole) else None


def _for_more_channels(down: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Let what was trained on 4 channels leave the mask and the masked picture of an inpainting model alone."""
    missing = shape[1] - down.shape[1] if down.ndim == 4 else 0
    return F.pad(down, (0, 0, 0, 0, 0, missing)) if missing > 0 and down.shape[1] == 4 else down


def _dora(shown: str, layer: str, dora_scale: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Magnitudes in the number of axes of the weight: (out, 1[, 1, 1]) or (1, in[, 1, 1])."""
    ones = [1] * (len(shape) - 2)
    if dora_scale.shape[:1] == shape[:1] and dora_scale.numel() == shape[0]:
        return dora_scale.reshape(shape[0], 1, *ones)
    if dora_scale.shape[1:2] == shape[1:2] and dora_scale.numel() == shape[1]:
        return dora_scale.reshape(1, shape[1], *ones)
    raise unusable(shown, f"the magnitudes of {shortened(layer)} are {sizes_of(dora_scale)}, "
                           f"the weight is {'x'.join(map(str, shape))}")


def sizes_of(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))


def shortened(layer: str) -> str:
    return layer[:120]


def unusable(file: str, reason: str) -> ModelError:
    return ModelError(f"{file[:80]} cannot be used: {reason}.")
