"""Tiny random models of the real diffusers classes, written as diffusers folders: the same road as a real checkpoint.

A 64x64 picture of four steps takes a few hundredths of a second. torch and diffusers are imported inside the
functions, so that tests which need no model stay quick.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NATIVE_PX = 64
TEXT_WIDTH = 32
WORDS = ("a", "an", "the", "of", "on", "in", "and", "with", "red", "green", "blue", "yellow", "cat", "dog", "house",
         "tree", "picture", "photo", "circle", "sun", "moon", "fish", "apple")
NOISE = dict(num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
             steps_offset=1)


def tiny_sd(folder: Path, *, in_channels: int = 4, prediction_type: str = "epsilon", seed: int = 0) -> Path:
    """Write a Stable Diffusion 1.x shaped folder; in_channels 9 makes it an inpainting checkpoint. Return `folder`."""
    import torch
    from diffusers import PNDMScheduler, StableDiffusionInpaintPipeline, StableDiffusionPipeline
    from transformers import CLIPTextModel

    tokenizer = write_tokenizer(folder / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {
            "vae": _vae(), "unet": _unet(in_channels=in_channels, cross_attention_dim=TEXT_WIDTH),
            "text_encoder": CLIPTextModel(_clip_config(len(tokenizer))), "tokenizer": tokenizer,
            "scheduler": PNDMScheduler(skip_prk_steps=True, prediction_type=prediction_type, **NOISE)}
    cls = StableDiffusionPipeline if in_channels == 4 else StableDiffusionInpaintPipeline
    pipe = cls(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipe.save_pretrained(folder)
    return folder


def tiny_sdxl(folder: Path, *, in_channels: int = 4, seed: int = 0) -> Path:
    """Write an SDXL shaped folder with two text encoders of different width. Return `folder`."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLInpaintPipeline, StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = write_tokenizer(folder / "tokenizer")
    tokenizer_2 = write_tokenizer(folder / "tokenizer_2", pad="!")
    width_2, time_width = 48, 8
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {
            "vae": _vae(scaling_factor=0.13025),
            "unet": _unet(
                in_channels=in_channels, cross_attention_dim=TEXT_WIDTH + width_2, addition_embed_type="text_time",
                addition_time_embed_dim=time_width, use_linear_projection=True, transformer_layers_per_block=(1, 2),
                projection_class_embeddings_input_dim=6 * time_width + width_2),
            "text_encoder": CLIPTextModel(_clip_config(len(tokenizer))), "tokenizer": tokenizer,
            "text_encoder_2": CLIPTextModelWithProjection(_clip_config(
                len(tokenizer), hidden_size=width_2, intermediate_size=2 * width_2, projection_dim=width_2,
                hidden_act="gelu", pad_token_id=0)),
            "tokenizer_2": tokenizer_2,
            "scheduler": EulerDiscreteScheduler(**NOISE)}
    cls = StableDiffusionXLPipeline if in_channels == 4 else StableDiffusionXLInpaintPipeline
    cls(**parts).save_pretrained(folder)
    return folder


def write_tokenizer(folder: Path, *, pad: str = "<|endoftext|>") -> Any:
    """Write a CLIP tokenizer that knows every byte and WORDS, and load it. pad: "!" for SDXL's second one."""
    from transformers import CLIPTokenizer

    alphabet = _byte_symbols()
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        left = word[0] if len(word) > 1 else ""
        for i, letter in enumerate(word[1:], 2):
            pair = (left, letter + "</w>" if i == len(word) else letter)
            merges += [pair] if pair not in merges else []
            left = "".join(pair)
    tokens = ["!"] + [symbol for symbol in alphabet if symbol != "!"] + [f"{symbol}</w>" for symbol in alphabet]
    tokens += ["".join(pair) for pair in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
               "pad_token": pad}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}))
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _byte_symbols() -> list[str]:
    """The 256 printable characters that stand for the 256 bytes in byte-level BPE."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def _clip_config(vocabulary_size: int, **changes: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(**{**dict(
        vocab_size=vocabulary_size, hidden_size=TEXT_WIDTH, intermediate_size=2 * TEXT_WIDTH, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=TEXT_WIDTH,
        bos_token_id=vocabulary_size - 2, eos_token_id=2, pad_token_id=1), **changes})


def _vae(**changes: Any) -> Any:
    """pixels (b, 3, 64, 64) <-> latents (b, 4, 8, 8)."""
    from diffusers import AutoencoderKL

    channels = (8, 8, 16, 16)
    return AutoencoderKL(
        block_out_channels=channels, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1, latent_channels=4, norm_num_groups=4,
        sample_size=NATIVE_PX, **changes)


def _unet(**changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=NATIVE_PX // 8, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4, norm_num_groups=8, **changes)
