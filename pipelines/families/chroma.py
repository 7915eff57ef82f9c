"""Chroma (lodestones 2025): FLUX.1 schnell made smaller, with real guidance and a T5 alone."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "ChromaPipeline", "img2img": "ChromaImg2ImgPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler")),
    name="chroma", label="Chroma", native_size=1024, unet_parameters=8_900_000_000, steps=35, guidance_scale=5.0)
