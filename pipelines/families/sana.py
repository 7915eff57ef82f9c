"""Sana (Xie et al. 2024, arXiv:2410.10629): an autoencoder that reduces 32 times, and linear attention."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "SanaPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler"), grain=32,
          arguments={"clean_caption": False, "use_resolution_binning": False}),
    name="sana", label="Sana", native_size=1024, unet_parameters=1_600_000_000, steps=20, guidance_scale=4.5)
