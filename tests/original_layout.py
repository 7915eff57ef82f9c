"""Diffusers components -> tensors under the names of an original single file (CompVis for 1.x and 2.x, Stability XL).

The names are those of CompVis/stable-diffusion, Stability-AI/generative-models and mlfoundations/open_clip.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
UNET_ENDS = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
             "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
             "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
VAE_WORDS = (("mid_block.resnets.0", "mid.block_1"), ("mid_block.resnets.1", "mid.block_2"),
             ("mid_block.attentions.0", "mid.attn_1"), ("conv_norm_out", "norm_out"), ("downsamplers.0", "downsample"),
             ("upsamplers.0", "upsample"), ("resnets", "block"), ("conv_shortcut", "nin_shortcut"),
             ("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out"))
OPEN_CLIP_LAYER = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj",
                   "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def original(components: dict[str, Any]) -> dict[str, Any]:
    """All tensors of a single file that holds these components; works on the meta device too."""
    tensors = {f"model.diffusion_model.{key}": tensor for key, tensor in unet(components["unet"]).items()}
    tensors |= {f"first_stage_model.{key}": tensor for key, tensor in vae(components["vae"]).items()}
    encoder = components.get("text_encoder")
    if encoder is None:  # the refiner of XL
        tensors |= open_clip(components["text_encoder_2"], "conditioner.embedders.0.model.")
    elif "text_encoder_2" in components:
        tensors |= clip(encoder, "conditioner.embedders.0.transformer.")
        tensors |= open_clip(components["text_encoder_2"], "conditioner.embedders.1.model.")
    elif encoder.config.hidden_act == "gelu":
        tensors |= open_clip(encoder, "cond_stage_model.model.")
    else:
        tensors |= clip(encoder, "cond_stage_model.transformer.")
    return tensors


def unet(network: Any) -> dict[str, Any]:
    blocks: dict[str, str] = {"mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
                              "mid_block.resnets.1": "middle_block.2"}
    n = 1
    for i, block in enumerate(network.down_blocks):
        for j in range(len(block.resnets)):
            blocks[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{n}.0"
            blocks[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{n}.1"
            n += 1
        if block.downsamplers:
            blocks[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{n}.0.op"
            n += 1
    n = 0
    for i, block in enumerate(network.up_blocks):
        for j in range(len(block.resnets)):
            blocks[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{n}.0"
            blocks[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{n}.1"
            n += 1
        after = 2 if hasattr(block, "attentions") else 1
        blocks[f"up_blocks.{i}.upsamplers.0.conv"] = f"output_blocks.{n - 1}.{after}.conv"
    named = {}
    for key, tensor in network.state_dict().items():
        module, _, kind = key.rpartition(".")
        if module in UNET_ENDS:
            named[f"{UNET_ENDS[module]}.{kind}"] = tensor
            continue
        place = next(place for place in blocks if key.startswith(place + "."))
        rest = key[len(place) + 1:]
        if ".resnets." in place:
            inner, _, kind = rest.rpartition(".")
            rest = f"{RESNET[inner]}.{kind}"
        named[f"{blocks[place]}.{rest}"] = tensor
    return named


def vae(network: Any) -> dict[str, Any]:
    last = len(network.config.block_out_channels) - 1
    named = {}
    for key, tensor in network.state_dict().items():
        attention = "attentions" in key and key.endswith("weight") and "group_norm" not in key
        for old, new in VAE_WORDS:
            key = re.sub(rf"\b{re.escape(old)}\b", new, key)
        key = re.sub(r"down_blocks\.(\d)", r"down.\1", key)
        key = re.sub(r"up_blocks\.(\d)", lambda match: f"up.{last - int(match[1])}", key)
        named[key] = tensor[:, :, None, None] if attention else tensor  # there attention is a 1x1 convolution
    return named


def clip(encoder: Any, prefix: str) -> dict[str, Any]:
    return {f"{prefix}text_model.{key.removeprefix('text_model.')}": tensor
            for key, tensor in encoder.state_dict().items()}


def open_clip(encoder: Any, prefix: str) -> dict[str, Any]:
    """OpenCLIP keeps query, key and value in one matrix; 2.x files carry a last layer that nobody reads."""
    import torch

    state = {key.removeprefix("text_model."): tensor for key, tensor in encoder.state_dict().items()}
    named = {"token_embedding.weight": state["embeddings.token_embedding.weight"],
             "positional_embedding": state["embeddings.position_embedding.weight"],
             "ln_final.weight": state["final_layer_norm.weight"], "ln_final.bias": state["final_layer_norm.bias"]}
    named["text_projection"] = state.get("text_projection.weight", torch.eye(
        encoder.config.hidden_size, device=encoder.device, dtype=encoder.dtype)).T.contiguous()
    for i in range(encoder.config.num_hidden_layers):
        layer = f"encoder.layers.{i}."
        for kind in ("weight", "bias"):
            named[f"transformer.resblocks.{i}.attn.in_proj_{kind}"] = torch.cat(
                [state[f"{layer}self_attn.{which}_proj.{kind}"] for which in "qkv"])
            for ours, theirs in OPEN_CLIP_LAYER.items():
                named[f"transformer.resblocks.{i}.{theirs}.{kind}"] = state[f"{layer}{ours}.{kind}"]
    return {prefix + key: tensor for key, tensor in named.items()}


def write_hollow(path: Path, tensors: dict[str, Any], dtype: str = "F16", item_bytes: int = 2) -> Path:
    """Write a safetensors file of these shapes whose data is one hole: full size to a reader, next to nothing on disk.

    tensors: anything with .shape, on the meta device for models that are large.
    """
    entries, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * item_bytes
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)
    return path
