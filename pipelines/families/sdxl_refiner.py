"""The refiner of Stable Diffusion XL: draws the last steps over a picture, with the second text encoder alone."""

from __future__ import annotations

from dataclasses import replace

from .family import UNET_PREFIX, Facts, Stock, stock_family

TEXT_WIDTH = 1280
FIRST_CONTEXT = UNET_PREFIX + "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
CLASSES = ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline")


def matches(facts: Facts) -> bool:
    if facts.pipeline:
        return facts.pipeline in CLASSES and facts.unet.get("cross_attention_dim") == TEXT_WIDTH
    return facts.width(FIRST_CONTEXT) == TEXT_WIDTH


FAMILY = replace(
    stock_family(
        {"img2img": "StableDiffusionXLImg2ImgPipeline", "inpaint": "StableDiffusionXLInpaintPipeline"},
        Stock(networks=("unet", "vae", "text_encoder", "text_encoder_2"),
              others=("tokenizer", "tokenizer_2", "scheduler"), optional=("text_encoder", "tokenizer"), grain=8,
              settings=("requires_aesthetics_score", "force_zeros_for_empty_prompt")),
        core="unet", name="sdxl_refiner", label="Stable Diffusion XL refiner", native_size=1024,
        unet_parameters=2_259_526_660, steps=25, guidance_scale=5.0, step_bytes=158, linear_share=0.64),
    # A single file's layout and sizes are those of sd_xl_refiner.yaml in Stability-AI/generative-models.
    matches=matches, config="sdxl_refiner", text_encoders=(("tokenizer_2", "text_encoder_2"),))
