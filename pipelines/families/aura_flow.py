"""AuraFlow (Fal 2024): a large flow model."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "AuraFlowPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler")),
    name="aura_flow", label="AuraFlow", native_size=1024, unet_parameters=6_800_000_000, steps=50,
    guidance_scale=3.5)
