"""Krea 2 (Krea 2026), with Qwen3-VL as its text encoder."""

from __future__ import annotations

from .family import Facts, Stock, stock_family


def prefers(facts: Facts) -> dict:
    """The distilled one takes few steps and no guidance, as the pipeline's own example says."""
    return {"steps": 8, "guidance_scale": 0.0} if facts.index.get("is_distilled") else {}


FAMILY = stock_family(
    {"txt2img": "Krea2Pipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler"),
          settings=("text_encoder_select_layers", "is_distilled", "patch_size"), latents="spread"),
    name="krea2", label="Krea 2", native_size=1024, unet_parameters=12_000_000_000, steps=28, guidance_scale=4.5,
    prefers=prefers)
