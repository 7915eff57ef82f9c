"""CogView3-Plus (Zheng et al. 2024, arXiv:2403.05121)."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "CogView3PlusPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler")),
    name="cogview3", label="CogView3-Plus", native_size=1024, unet_parameters=2_800_000_000, steps=50,
    guidance_scale=7.0, sampler="DDIM")
