"""Kandinsky 3 (Arkhipkin et al. 2023, arXiv:2312.03511): a large U-Net with a T5."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "Kandinsky3Pipeline", "img2img": "Kandinsky3Img2ImgPipeline"},
    Stock(networks=("unet", "movq", "text_encoder"), others=("tokenizer", "scheduler"), grain=64,
          latents="nothing"),
    core="unet", name="kandinsky3", label="Kandinsky 3", native_size=1024, unet_parameters=3_000_000_000, steps=25,
    guidance_scale=3.0, sampler="DDPM")
