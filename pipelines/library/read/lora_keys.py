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
GLORA = ("a1", "a2", "b1", "b2")
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
    # changes of norms (LyCORIS) and of biases (LyCORIS, ComfyUI; peft's lora_bias)
    ".w_norm": "w_norm", ".b_norm": "b_norm", ".diff_b": "diff_b",
    ".lora_B.bias": "up_bias", ".lora_B.default.bias": "up_bias",
    ".lora_up.bias": "up_bias", ".lora.up.bias": "up_bias",
    # IA3 (LyCORIS has a .weight beside .on_input; see `layers`) and GLoRA
    ".ia3_l": "ia3_l", ".ia3_l.default": "ia3_l", ".on_input": "on_input",
    **{f".{name}.weight": name for name in GLORA},
}
BIASES = ("diff_b", "b_norm", "up_bias")
# What a kind that is not read has in its tensors' names. Of one that ends another one, the longer comes first.
NOT_READ = (("boft_R", "BOFT"), ("boft_s", "BOFT"), ("boft_m", "BOFT"), ("oft_blocks", "OFT"), ("oft_R", "OFT"),
            ("oft_diag", "OFT"), ("vera_lambda", "VeRA"), ("vblora_", "VB-LoRA"), ("fourierft_", "FourierFT"),
            ("hra_u", "HRA"), ("bone_block", "Bone"), ("miss_block", "MiSS"), ("ln_tuning_layers", "LN tuning"),
            ("randlora_", "RandLoRA"), ("c3a_kernel", "C3A"), ("shira_weight", "SHiRA"),
            ("set_weight", "whole weights"), ("lllite_", "ControlNet-LLLite"),
            ("lora_controlnet", "Control-LoRA"), ("control_model.", "ControlNet"),
            ("controlnet_", "ControlNet"), ("ip_adapter.", "IP-Adapter"), ("image_proj.", "IP-Adapter"),
            ("motion_modules.", "AnimateDiff"))
BUNDLED = "bundle_emb."
BOFT_AXES = 4  # of LyCORIS's oft_blocks; those of OFT have three
# The tensors that hold the rank as their first axis.
RANK_ROLES = ("down", "hada_w1_b", "hada_w2_b", "lokr_w1_b", "lokr_w2_b", "hada_t1", "hada_t2", "lokr_t2")
CONTEXT_LAYER = re.compile(r"attn2[._](processor\.)?to_[kv]$")
# Transformers have layers of that name, too; they do not lie in such blocks.
UNET_BLOCK = re.compile(r"(down|up|input|output)_blocks|mid(dle)?_block")
# Stable Diffusion XL alone has more than one transformer block at a place, and embeds size and crop.
LARGE = re.compile(r"transformer_blocks[._][1-9]|add_embedding|label_emb")
# Adapters for models that are not run here, by what occurs in their names; to say more than "0 layers matched".
FOREIGN = (("double_blocks", "FLUX.1"), ("single_transformer_blocks", "FLUX.1"), ("joint_blocks", "Stable Diffusion 3"),
           ("add_q_proj", "a transformer model"), ("lora_te3_", "a model with a T5 text encoder"),
           ("diffusion_model.layers.", "a transformer model"), ("diffusion_model.blocks.", "a transformer model"),
           ("lora_unet_blocks_", "a transformer model"), ("lora_prior_", "Stable Cascade"),
           ("text_encoders.t5xxl.", "a model with a T5 text encoder"))
SECOND_ENCODER = ("lora_te2_", "text_encoder_2.", "clip_g.", "text_encoders.clip_g.")
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
    scaled = {f"{layer}.weight": layer for layer, roles in found.items() if "on_input" in roles}  # IA3 of LyCORIS
    for key in scaled.keys() & set(other):
        found[scaled[key]]["ia3_w"] = key
    return found, tuple(key for key in other if key not in scaled)


def is_adapter(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether tensors of these names are meant as an adapter at all."""
    named, _ = layers(shapes)
    # Names as short as those of GLoRA's tensors may be anybody's: only all four of them tell.
    return any(roles.keys() - {"alpha", *GLORA} or roles.keys() >= set(GLORA) for roles in named.values())


def not_read(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Kinds of adapters that are not read here -> how many tensors of these are of it."""
    found: dict[str, int] = {}
    for key, shape in shapes.items():
        kind = next((kind for part, kind in NOT_READ if part in key), "")
        kind = "BOFT" if kind == "OFT" and len(shape) == BOFT_AXES else kind
        if kind:
            found[kind] = found.get(kind, 0) + 1
    return found


def bundled(names: Iterable[str]) -> tuple[str, ...]:
    """The words of the embeddings that a LoRA file carries (OneTrainer: bundle_emb.WORD.clip_l and the like)."""
    inner = (name.removeprefix(BUNDLED) for name in names if name.startswith(BUNDLED))
    ends = re.compile(r"(\.string_to_param.*|\.(clip_[lgh]|t5|emb_params)(_out)?)$")
    return tuple(dict.fromkeys(ends.sub("", name) for name in inner))


def refusal(shown: str, shapes: Mapping[str, tuple[int, ...]], nothing: str = "no LoRA") -> str:
    """Say why a file without anything that is read here cannot be used. nothing: what was expected in it."""
    if kinds := not_read(shapes):
        return (f"{shown} cannot be used: it holds {' and '.join(kinds)}, which is not read here. Read are LoRA, "
                "LoCon, DoRA, LoHa, LoKr, GLoRA, IA3 and whole differences.")
    if words := bundled(shapes):
        return (f"{shown} cannot be used: it holds embeddings alone ({', '.join(words)[:200]}), under the names of a "
                "LoRA.")
    return f"{shown} cannot be used: it holds {nothing}."


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
    large = False
    for name in named:
        for part, kind in FOREIGN:
            if part in name:
                return kind
        large = large or name.startswith(SECOND_ENCODER) or (UNET_BLOCK.search(name) and LARGE.search(name))
    if not large:
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
