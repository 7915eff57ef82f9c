"""CogView4 (Zhipu 2025): English and Chinese, also as text in pictures."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "CogView4Pipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler"), grain=32),
    name="cogview4", label="CogView4", native_size=1024, unet_parameters=6_400_000_000, steps=50,
    guidance_scale=3.5)
