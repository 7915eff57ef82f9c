"""Z-Image (Tongyi-MAI 2025, arXiv:2511.22699). The defaults are those of the distilled Turbo."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "ZImagePipeline", "img2img": "ZImageImg2ImgPipeline", "inpaint": "ZImageInpaintPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler")),
    name="z_image", label="Z-Image", native_size=1024, unet_parameters=6_150_000_000, steps=9, guidance_scale=0.0)
