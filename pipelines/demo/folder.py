"""The diffusers folder: builds the five parts at the configured sizes, and writes them so that stock pipelines run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel

from .config import Config

START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's own split of text into words (openai/CLIP, simple_tokenizer.py)
WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def vae(config: Config) -> AutoencoderKL:
    """pixels (b, 3, 128, 128) in [-1, 1] <-> latents (b, 4, 16, 16). No attention: it is fully convolutional."""
    levels = len(config.vae_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.vae_channels, layers_per_block=config.vae_layers,
        latent_channels=config.latent_channels, norm_num_groups=config.vae_groups, sample_size=config.image_px,
        mid_block_add_attention=False, force_upcast=False)


def unet(config: Config) -> UNet2DConditionModel:
    """latents (b, 4, 16, 16), t (b,), text (b, 77, width) -> v (b, 4, 16, 16)."""
    down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in config.unet_attention)
    up = tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(config.unet_attention))
    return UNet2DConditionModel(
        sample_size=config.latent_px, in_channels=config.latent_channels, out_channels=config.latent_channels,
        down_block_types=down, up_block_types=up, block_out_channels=config.unet_channels,
        layers_per_block=config.unet_layers, cross_attention_dim=config.text_width,
        attention_head_dim=config.unet_heads,                    # in fact the number of heads, for old times' sake
        norm_num_groups=config.unet_groups)


def text_encoder(config: Config, vocabulary_size: int) -> CLIPTextModel:
    """token ids (b, 77) -> last_hidden_state (b, 77, width), causal, as in CLIP (Radford et al. 2021)."""
    end = vocabulary_size - 1
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=vocabulary_size, hidden_size=config.text_width, intermediate_size=4 * config.text_width,
        num_hidden_layers=config.text_layers, num_attention_heads=config.text_heads,
        max_position_embeddings=config.positions, hidden_act="quick_gelu", projection_dim=config.text_width,
        bos_token_id=end - 1, eos_token_id=end, pad_token_id=end))


def scheduler(**changes) -> DPMSolverMultistepScheduler:
    """Stable Diffusion's kind of noise schedule, fitted to latents of 16x16, and v-prediction.

    With Stable Diffusion's last beta, 0.012, so small a latent keeps a trace of its plain background even in the last
    step (snr 0.005 over 256 cells), and pictures begun from pure noise come out gray: hence 0.0217. And a small picture
    loses its layout to less noise than a large one (Hoogeboom et al. 2023, arXiv:2301.11093, section 3.1): hence the
    small first beta, by which strength 0.5 leaves an snr of 0.40, twice that of 0.00085. "trailing"
    spacing starts every sampler at the last step.
    """
    return DPMSolverMultistepScheduler(**{**dict(
        num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00015, beta_end=0.0217,
        prediction_type="v_prediction", timestep_spacing="trailing", algorithm_type="dpmsolver++", solver_order=2,
        lower_order_final=True, steps_offset=1), **changes})


# --------------------------------------------------------------------------------------------------------- tokenizer
def train_tokenizer(folder: Path, texts: list[str], config: Config) -> None:
    """Learn byte pairs from captions and write the files that CLIPTokenizer reads: vocab.json, merges.txt, configs.

    The vocabulary is laid out as CLIP's: 256 bytes, the same ending a word, one entry a merge, start and end.
    """
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=len(alphabet) * 2 + config.merges + 2, initial_alphabet=alphabet, end_of_word_suffix="</w>",
        special_tokens=[END], show_progress=False))
    merges = [tuple(m) for m in json.loads(bpe.to_str())["model"]["merges"]][: config.merges]
    words = alphabet + [a + "</w>" for a in alphabet] + ["".join(m) for m in merges] + [START, END]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": config.positions, "bos_token": START,
        "eos_token": END, "pad_token": END, "unk_token": END, "do_lower_case": True, "errors": "replace",
        "add_prefix_space": False, "clean_up_tokenization_spaces": False})
    write_json(folder / "special_tokens_map.json", {
        "bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END})


# ------------------------------------------------------------------------------------------------------------ export
# Chosen and drawn by hand, so they outlive a training: title, settings and examples, as any model folder may bring
# them, the pictures of those examples, and the one among the models.
KEPT_FILES, KEPT_FOLDER = ("atelier.json", "preview.webp"), "examples"


def write_folder(folder: Path, parts: dict, tokenizer_folder: Path) -> None:
    """Write {"vae", "unet", "text_encoder", "scheduler"} and the tokenizer as one fp16 pipeline folder, atomically.

    The text encoder's config says float32: stock pipelines cast its weights to what the config says while UNet and
    VAE come as float32, and would otherwise stop at the first matrix product. Its keys carry the prefix
    `text_model.`, which every version of transformers and other tools read.
    """
    new = folder.with_name(folder.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    for name, part in parts.items():
        part.save_pretrained(new / name)
        for weights in (new / name).glob("*.safetensors"):
            tensors = {k: v.detach().to(torch.float16).contiguous() for k, v in load_file(weights).items()}
            if name == "text_encoder":
                tensors = {k if k.startswith("text_model.") else f"text_model.{k}": v for k, v in tensors.items()
                           if not k.endswith("position_ids")}
            save_file(tensors, weights, metadata={"format": "pt"})
    config = json.loads((new / "text_encoder" / "config.json").read_text())
    config.pop("torch_dtype", None)
    write_json(new / "text_encoder" / "config.json", {**config, "dtype": "float32"})
    shutil.copytree(tokenizer_folder, new / "tokenizer")
    write_json(new / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1",
        "vae": ["diffusers", "AutoencoderKL"], "unet": ["diffusers", "UNet2DConditionModel"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", type(parts["scheduler"]).__name__],
        "safety_checker": [None, None], "feature_extractor": [None, None], "image_encoder": [None, None],
        "requires_safety_checker": False})
    for name in KEPT_FILES:
        if (folder / name).is_file():
            shutil.copy(folder / name, new / name)
    if (folder / KEPT_FOLDER).is_dir():
        shutil.copytree(folder / KEPT_FOLDER, new / KEPT_FOLDER)
    if folder.exists():
        shutil.rmtree(old := folder.with_name(folder.name + ".old"), ignore_errors=True)
        os.replace(folder, old)
        os.replace(new, folder)
        shutil.rmtree(old)
    else:
        os.replace(new, folder)


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
