"""Stable Diffusion 2.x: OpenCLIP ViT-H/14 without its last layer, 512 px (noise) or 768 px (v-prediction)."""

from __future__ import annotations

from .family import UNET_PREFIX, Facts, Family

TEXT_WIDTH = 1024
FIRST_CONTEXT = UNET_PREFIX + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
PIPELINES = {"txt2img": "StableDiffusionPipeline", "img2img": "StableDiffusionImg2ImgPipeline",
             "inpaint": "StableDiffusionInpaintPipeline"}


def matches(facts: Facts) -> bool:
    if facts.pipeline:
        return facts.pipeline in PIPELINES.values() and facts.unet.get("cross_attention_dim") == TEXT_WIDTH
    return facts.width(FIRST_CONTEXT) == TEXT_WIDTH


FAMILY = Family(
    name="sd2", label="Stable Diffusion 2.x", native_size=768, pipelines=PIPELINES, matches=matches, config="sd2",
    # The latent space is that of 1.x, and so are the factors (as published in ComfyUI's latent_formats.py).
    latent_rgb=((0.3512, 0.2297, 0.3227), (0.3250, 0.4974, 0.2350), (-0.2829, 0.1762, 0.2721),
                (-0.2120, -0.2616, -0.7177)))
