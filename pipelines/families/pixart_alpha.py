"""PixArt-alpha (Chen et al. 2023, arXiv:2310.00426): a small transformer with a T5."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "PixArtAlphaPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler"),
          arguments={"clean_caption": False, "use_resolution_binning": False}),
    name="pixart_alpha", label="PixArt-alpha", native_size=1024, unet_parameters=611_000_000, steps=20,
    guidance_scale=4.5, sampler="DPM++ 2M")
