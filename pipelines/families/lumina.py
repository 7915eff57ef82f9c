"""Lumina-Next (Zhuo et al. 2024, arXiv:2406.18583), with Gemma as its text encoder."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "LuminaPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler"),
          arguments={"clean_caption": False}),
    name="lumina", label="Lumina-Next", native_size=1024, unet_parameters=1_700_000_000, steps=30,
    guidance_scale=4.0)
