"""Stable Diffusion 2.x: OpenCLIP ViT-H/14 without its last layer, 512 px (noise) or 768 px (v-prediction)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .family import UNET_PREFIX, Facts, Family, LoraFacts

if TYPE_CHECKING:
    import torch

TEXT_WIDTH = 1024
FIRST_CONTEXT = UNET_PREFIX + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
LAST_BIAS = UNET_PREFIX + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
LARGE_STD = 0.09
PIPELINES = {"txt2img": "StableDiffusionPipeline", "img2img": "StableDiffusionImg2ImgPipeline",
             "inpaint": "StableDiffusionInpaintPipeline"}


def matches(facts: Facts) -> bool:
    if facts.pipeline:
        return facts.pipeline in PIPELINES.values() and facts.unet.get("cross_attention_dim") == TEXT_WIDTH
    return facts.width(FIRST_CONTEXT) == TEXT_WIDTH


def file_settings(facts: Facts, tensor: Callable[[str], torch.Tensor]) -> dict[str, object]:
    """Tell the 768 px model from the 512 px ones: nothing but its weights differs.

    The spread of one bias separates them (the rule of ComfyUI's supported_models.py); inpainting ones have 512 px.
    """
    large = facts.in_channels == 4 and LAST_BIAS in facts.shapes and tensor(LAST_BIAS).std() > LARGE_STD
    return {"native_size": 768 if large else 512}


FAMILY = Family(
    name="sd2", label="Stable Diffusion 2.x", native_size=768, pipelines=PIPELINES, matches=matches,
    file_settings=file_settings, config="sd2", has_both_predictions=True,
    unet_parameters=865_910_724, step_bytes=260, linear_share=0.35,
    lora=LoraFacts(context_width=TEXT_WIDTH, base_version="sd_v2", architecture="stable-diffusion-v2-512",
                   architecture_v="stable-diffusion-v2-768-v", sidecar="SD2"),
    # The latent space is that of 1.x, and so are the factors (as published in ComfyUI's latent_formats.py).
    latent_rgb=((0.3512, 0.2297, 0.3227), (0.3250, 0.4974, 0.2350), (-0.2829, 0.1762, 0.2721),
                (-0.2120, -0.2616, -0.7177)))
