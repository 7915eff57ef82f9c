"""The refiner of Stable Diffusion XL: draws the last steps over a picture, with the second text encoder alone."""

from __future__ import annotations

from dataclasses import replace

from .family import Stock, stock_family

TEXT_WIDTH = 1280
CLASSES = ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline")

FAMILY = replace(
    stock_family(
        {"img2img": "StableDiffusionXLImg2ImgPipeline", "inpaint": "StableDiffusionXLInpaintPipeline"},
        Stock(networks=("unet", "vae", "text_encoder", "text_encoder_2"),
              others=("tokenizer", "tokenizer_2", "scheduler"), optional=("text_encoder", "tokenizer"), grain=8,
              settings=("requires_aesthetics_score", "force_zeros_for_empty_prompt")),
        core="unet", name="sdxl_refiner", label="Stable Diffusion XL refiner", native_size=1024,
        unet_parameters=2_260_000_000, steps=25, guidance_scale=5.0, step_bytes=158),
    matches=lambda facts: facts.pipeline in CLASSES and facts.unet.get("cross_attention_dim") == TEXT_WIDTH)
