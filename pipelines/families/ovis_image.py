"""Ovis-Image (AIDC-AI 2025, arXiv:2511.22982): made for text in pictures."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "OvisImagePipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler")),
    name="ovis_image", label="Ovis-Image", native_size=1024, unet_parameters=7_400_000_000, steps=50,
    guidance_scale=5.0)
