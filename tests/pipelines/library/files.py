"""Small safetensors files of every kind, written with the names that real ones have."""

from __future__ import annotations

from pathlib import Path

import numpy as np

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
ORIGINAL_VAE = {"decoder.conv_in.weight": (8, 4, 3, 3), "decoder.mid.block_1.conv1.weight": (8, 8, 3, 3)}


def write(path: Path, shapes: dict[str, tuple[int, ...]], metadata: dict[str, str] | None = None) -> Path:
    """A file of zeros in float16."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}, path, metadata)
    return path


def checkpoint(path: Path, text_width: int = 768) -> Path:
    block = 4 if text_width == 2048 else 1
    return write(path, {
        UNET + "input_blocks.0.0.weight": (8, 4, 3, 3), VAE + "decoder.conv_in.weight": (8, 4, 3, 3),
        VAE + "decoder.mid.block_1.conv1.weight": (8, 8, 3, 3),
        f"{UNET}input_blocks.{block}.1.transformer_blocks.0.attn2.to_k.weight": (8, text_width),
        TEXT + "embeddings.position_embedding.weight": (77, 8)})


def lora(path: Path, text_width: int = 768, rank: int = 4, metadata: dict[str, str] | None = None) -> Path:
    layer = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    return write(path, {f"{layer}.lora_down.weight": (rank, text_width), f"{layer}.lora_up.weight": (8, rank),
                        f"{layer}.alpha": ()}, metadata)


def vae(path: Path) -> Path:
    return write(path, ORIGINAL_VAE)


def embedding(path: Path, width: int = 768, vectors: int = 3) -> Path:
    return write(path, {"emb_params": (vectors, width)})


def write_file(path: Path, shapes: dict[str, tuple[int, ...]], values: dict[str, np.ndarray] | None = None) -> Path:
    """As `write`, with the `values` given in place of zeros."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    zeros = {name: np.zeros(shape, np.float16) for name, shape in shapes.items()}
    save_file({**zeros, **(values or {})}, path)
    return path


def single_file(text_width: int, in_channels: int = 4, block: int = 1) -> dict[str, tuple[int, ...]]:
    return {UNET + "input_blocks.0.0.weight": (8, in_channels, 3, 3), VAE + "decoder.conv_in.weight": (8, 4, 3, 3),
            f"{UNET}input_blocks.{block}.1.transformer_blocks.0.attn2.to_k.weight": (8, text_width),
            TEXT + "embeddings.position_embedding.weight": (77, text_width)}
