"""PixArt-sigma (Chen et al. 2024, arXiv:2403.04692): a small transformer with a T5."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "PixArtSigmaPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler"),
          arguments={"clean_caption": False, "use_resolution_binning": False}),
    name="pixart_sigma", label="PixArt-sigma", native_size=1024, unet_parameters=611_000_000, steps=20,
    guidance_scale=4.5, sampler="DPM++ 2M")
