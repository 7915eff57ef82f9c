"""How much memory a request will take, before anything is loaded. Imports no torch.

Weights are counted from the files' headers. What drawing takes beside them is measured: benchmarks/activations.py
prints the numbers of the families below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import ModelError
from ..families import FAMILIES, Family
from ..library.read.card import ModelCard
from ..machine import device
from ..machine.device import Placement
from ..settings import Settings
from . import quantize

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "8-bit": 1, "4-bit": 0.5625}  # a scale for 64 of 4 bits
RUNTIME_BYTES = 0.6e9  # what a CUDA context and its libraries take; a CPU process has had them since it began
DECODE_MOST_BYTES = 6e9  # larger pictures are decoded in windows


@dataclass(frozen=True)
class Need:
    """Bytes that a run takes on the device. largest: of the component with the most weights. work: beside weights."""

    weights: int
    largest: int
    work: int

    def on_device(self, offload: str) -> int:
        """With everything on the device, with one component at a time there ("model"), or with a layer ("group")."""
        resident = {"none": self.weights, "model": self.largest, "group": min(self.largest, 1e9)}[offload]
        return int(resident + self.work)


def need(card: ModelCard, placement: Placement, width: int, height: int, batch_size: int = 1,
         guided: bool = True) -> Need:
    """Estimate a run of a model at a size. guided: whether each step sees the negative prompt as well."""
    family = FAMILIES[card.family]
    sizes = {part: count * _item_bytes(part, placement, family)
             for part, count in (card.parameters or {family.core: card.size_bytes / 2}).items()}
    item = ITEM_BYTES[placement.dtype] / 2  # the families' numbers are of half precision
    pixels = width * height
    at_once = batch_size if family.batches else 1
    rows = at_once * (family.guided_rows if guided else 1)
    step = family.step_bytes * pixels * rows * item
    decode = min(family.decode_bytes * pixels * ITEM_BYTES[placement.vae_dtype] / 2, DECODE_MOST_BYTES)
    runtime = 0 if placement.device == "cpu" else RUNTIME_BYTES
    return Need(int(sum(sizes.values())), int(max(sizes.values())), int(max(step, decode) + runtime))


def placement_for(card: ModelCard, settings: Settings, free_bytes: int) -> Placement:
    """Choose where and how a model will lie. free_bytes: on the device. Raises RequestError and ModelError."""
    family = FAMILIES[card.family]
    if settings.quantize == "4-bit" and not quantize.is_installed():
        raise ModelError("4-bit weights need the package bitsandbytes, which is not installed. Install it, or take "
                         "--quantize 8-bit or none.")
    placement = device.choose(settings.device, settings.dtype, unet_parameters=card.unet_parameters,
                              half_vae=family.half_vae, wide=family.is_wide)
    if settings.quantize == "8-bit" and not _takes_eight_bits(placement):
        raise ModelError("8-bit weights are not possible on an Apple GPU, which has no such number format. Start with "
                         "--quantize none.")
    placement = replace(placement, weights="" if settings.quantize == "none" else settings.quantize)
    if not placement.device.startswith("cuda"):  # elsewhere the device's memory is the host's
        return placement
    usual = need(card, placement, card.native_size, card.native_size)
    auto = settings.offload == "auto"
    return replace(placement, offload=offload_for(usual, free_bytes) if auto else settings.offload)


def full(card: ModelCard, placement: Placement) -> str:
    """Say that a model does not fit where it was to lie, and what helps there; first what changes no picture."""
    flag = ""
    if placement.device.startswith("cuda") and placement.offload == "none":
        flag = "--offload model"
    elif not placement.weights and _takes_eight_bits(placement):
        flag = "--quantize 8-bit"
    elif placement.weights != "4-bit" and quantize.is_installed():
        flag = "--quantize 4-bit"
    if not flag:
        return f"Not enough memory to load {card.title}. Close other programs, or choose a smaller model."
    return (f"Not enough memory to load {card.title}. Close other programs, choose a smaller model, or start with "
            f"{flag}.")


def offload_for(needed: Need, free_bytes: int) -> str:
    """The mode that fits with the fewest transfers: "none", "model" or "group"."""
    return next((mode for mode in ("none", "model") if needed.on_device(mode) <= free_bytes), "group")


def for_run(placement: Placement, needed: Need, settings: Settings, free_bytes: int) -> Placement:
    """The placement for one run: what lies on a card whole waits in parts when the run is too large for that.

    Where the run would not fit then either, trying it as it is comes first: a batch can be split.
    """
    whole = placement.device.startswith("cuda") and placement.offload == "none" and settings.offload == "auto"
    if whole and needed.on_device("model") <= free_bytes < needed.on_device("none"):
        return replace(placement, offload="model")
    return placement


def for_gradients(card: ModelCard, placement: Placement, through: str, free_bytes: int) -> Placement:
    """The placement for one run that takes gradients: backward needs the weights where and as forward had them.

    through: "decoder", or "network" for both. Raises ModelError where there is no room for that.
    """
    packed = placement.weights == "8-bit"
    if not (placement.offload == "group" if through == "decoder" else placement.offload != "none" or packed):
        return placement
    whole = replace(placement, offload="none", weights="" if packed else placement.weights)
    needed = need(card, whole, card.native_size, card.native_size).on_device("none")
    if needed > free_bytes:
        raise ModelError(f"Gradients need all of {card.title} on the device, and not in 8 bits: about "
                         f"{needed / 1e9:.1f} GB, and {free_bytes / 1e9:.1f} GB are free. Choose a smaller model.")
    return whole


def sentence(needed: Need, offload: str, free_bytes: int) -> str:
    """Say it for a person: "Needs about 5.1 of 8 GB"."""
    asked, free = needed.on_device(offload) / 1e9, free_bytes / 1e9
    words = f"Needs about {asked:.1f} of {free:.0f} GB" if free >= 10 else f"Needs about {asked:.1f} of {free:.1f} GB"
    moved = {"none": "", "model": ", with parts waiting in main memory", "group": ", layer by layer: slow"}[offload]
    return words + moved + (": too much" if asked > free else "")


def _takes_eight_bits(placement: Placement) -> bool:
    return placement.device != "mps"  # torch 2.13 has no float8 there


def _item_bytes(part: str, placement: Placement, family: Family) -> float:
    if part == family.core and placement.weights == "4-bit":
        share = family.linear_share
        return ITEM_BYTES["4-bit"] * share + ITEM_BYTES[placement.dtype] * (1 - share)
    if part == family.core and placement.weights:
        return ITEM_BYTES[placement.weights]
    return ITEM_BYTES[placement.vae_dtype if part == "vae" else placement.dtype]
