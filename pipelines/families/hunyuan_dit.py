"""Hunyuan-DiT (Li et al. 2024, arXiv:2405.08748): English and Chinese."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "HunyuanDiTPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder", "text_encoder_2"),
          others=("tokenizer", "tokenizer_2", "scheduler"), arguments={"use_resolution_binning": False}),
    name="hunyuan_dit", label="Hunyuan-DiT", native_size=1024, unet_parameters=1_500_000_000, steps=50,
    guidance_scale=5.0, sampler="DDPM")
