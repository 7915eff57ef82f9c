"""What the tensor names and shapes of a LoRA file say: layer, role, rank and family. Imports no torch.

A name is the layer's name and a suffix. kohya: lora_unet_mid_block_..._to_q.lora_down.weight (kohya-ss/sd-scripts,
networks/lora.py); LyCORIS: .hada_w1_a, .lokr_w1 (KohakuBlueleaf/LyCORIS); peft: unet.mid_block...to_q.lora_A.weight.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ...errors import ModelError
from ...families import FAMILIES
from .headers import Header

MAX_RANK = 1024
LYCORIS = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "lokr_w1", "lokr_w1_a",
           "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
# Suffix -> role. One that ends another one stands after it.
ROLES = {
    ".lora_down.weight": "down", ".lora_up.weight": "up", ".lora_mid.weight": "mid", ".alpha": "alpha",
    ".dora_scale": "dora_scale",
    ".lora_A.weight": "down", ".lora_B.weight": "up", ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_magnitude_vector": "magnitude", ".lora_magnitude_vector.weight": "magnitude",
    ".lora_magnitude_vector.default.weight": "magnitude",
    # diffusers before peft: of the attention processors, and of the text encoder
    ".lora.down.weight": "down", ".lora.up.weight": "up",
    "_lora.down.weight": "down", "_lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down", ".lora_linear_layer.up.weight": "up",
    ".diff": "diff",
    **{f".{name}": name for name in LYCORIS},
}
# The tensors that hold the rank as their first axis.
RANK_ROLES = ("down", "hada_w1_b", "hada_w2_b", "lokr_w1_b", "lokr_w2_b", "hada_t1", "hada_t2", "lokr_t2")
CONTEXT_LAYER = re.compile(r"attn2[._](processor\.)?to_[kv]$")
# Transformers have layers of that name, too; they do not lie in such blocks.
UNET_BLOCK = re.compile(r"(down|up|input|output)_blocks|mid(dle)?_block")
NUMBERED = re.compile(r"(input_blocks|output_blocks|middle_block)[._]")
# Adapters for models that are not run here, by what occurs in their names; to say more than "0 layers matched".
FOREIGN = (("double_blocks", "FLUX.1"), ("single_transformer_blocks", "FLUX.1"), ("joint_blocks", "Stable Diffusion 3"),
           ("add_q_proj", "a transformer model"), ("lora_te3_", "a model with a T5 text encoder"),
           ("diffusion_model.layers.", "a transformer model"), ("diffusion_model.blocks.", "a transformer model"),
           ("lora_unet_blocks_", "a transformer model"), ("lora_prior_", "Stable Cascade"))
REFINER_WIDTH = 1280


def split(key: str) -> tuple[str, str] | None:
    """(layer's name, role) of a tensor's name, or None when it is no part of an adapter."""
    for suffix, role in ROLES.items():
        if key.endswith(suffix):
            return key[:-len(suffix)], role
    return None


def layers(keys: Iterable[str]) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Sort tensor names: ({layer's name: {role: tensor's name}}, the names that are no part of an adapter)."""
    found: dict[str, dict[str, str]] = {}
    other: list[str] = []
    for key in keys:
        parted = split(key)
        if parted is None:
            other.append(key)
        else:
            found.setdefault(parted[0], {})[parted[1]] = key
    return found, tuple(other)


def is_adapter(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether tensors of these names are meant as an adapter at all."""
    return any(parted is not None and parted[1] != "alpha" for parted in map(split, shapes))


def ranks(header: Header) -> tuple[int, ...]:
    """The different ranks in a file, smallest first; ModelError for one that cannot be."""
    found = set()
    for key, shape in header.shapes.items():
        parted = split(key)
        if parted and parted[1] in RANK_ROLES:
            if not shape or not 1 <= shape[0] <= MAX_RANK:
                raise ModelError(f"{header.path.name[:80]} cannot be used: rank {shape[0] if shape else 'none'} in "
                                 f"{key[:80]}. A rank is from 1 to {MAX_RANK:,}.")
            found.add(shape[0])
    return tuple(sorted(found))


def family_of(header: Header) -> str:
    """Key of FAMILIES, or words for another kind of model, or "" when nothing tells.

    What the shapes say goes before what the maker wrote.
    """
    named, _ = layers(header.shapes)
    return _by_context(header, named) or _by_name(named) or _by_metadata(header.metadata)


def label(family: str) -> str:
    """How a family (see `family_of`) is called."""
    return FAMILIES[family].label if family in FAMILIES else family


def _by_context(header: Header, named: Mapping[str, Mapping[str, str]]) -> str:
    """Judge by the width of the text states, which the U-Net's cross-attention takes."""
    widths = {family.lora.context_width: family.name for family in FAMILIES.values() if family.lora}
    widths[REFINER_WIDTH] = "the Stable Diffusion XL refiner"
    for name, roles in named.items():
        key = roles.get("down") or roles.get("hada_w1_b")
        if key and CONTEXT_LAYER.search(name) and UNET_BLOCK.search(name) and len(header.shapes[key]) > 1:
            return widths.get(header.shapes[key][1], "")
    return ""


def _by_name(named: Iterable[str]) -> str:
    numbered = two_encoders = False
    for name in named:
        for part, kind in FOREIGN:
            if part in name:
                return kind
        numbered = numbered or NUMBERED.search(name) is not None
        two_encoders = two_encoders or name.startswith(("lora_te2_", "text_encoder_2."))
    if not numbered and not two_encoders:
        return ""
    return next((family.name for family in FAMILIES.values() if family.lora and family.lora.numbered), "")


def _by_metadata(metadata: Mapping[str, str]) -> str:
    version = metadata.get("ss_base_model_version", "")
    architecture = metadata.get("modelspec.architecture", "")
    if metadata.get("ss_v2") == "True":
        version = version or "sd_v2"
    for family in FAMILIES.values():
        # The first word is enough: makers write sdxl_base_v0-9, sd_v2_v and the like.
        if family.lora and (version.startswith(family.lora.base_version.split("_base")[0])
                            or architecture.startswith(family.lora.architecture.removesuffix("-512"))):
            return family.name
    return ""  # makers have many words for the same model; the layers will tell
