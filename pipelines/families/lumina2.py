"""Lumina-Image 2.0 (Qin et al. 2025, arXiv:2503.21758), with Gemma 2 as its text encoder."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "Lumina2Pipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler")),
    name="lumina2", label="Lumina-Image 2", native_size=1024, unet_parameters=2_600_000_000, steps=50,
    guidance_scale=4.0)
