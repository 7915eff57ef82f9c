"""Qwen-Image (Wu et al. 2025, arXiv:2508.02324): strong at text in pictures."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "QwenImagePipeline", "img2img": "QwenImageImg2ImgPipeline", "inpaint": "QwenImageInpaintPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler"),
          guidance="true_cfg_scale", latents="spread"),
    name="qwen_image", label="Qwen-Image", native_size=1328, unet_parameters=20_400_000_000, steps=50,
    guidance_scale=4.0)
