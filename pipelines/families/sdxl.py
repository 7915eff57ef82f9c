"""Stable Diffusion XL (Podell et al. 2023, arXiv:2307.01952): two text encoders, 1024 px. The refiner is another."""

from __future__ import annotations

from .family import UNET_PREFIX, Facts, Family, LoraFacts

TEXT_WIDTH = 2048
FIRST_CONTEXT = UNET_PREFIX + "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
REFINER_TEXT_WIDTH = 1280
PIPELINES = {"txt2img": "StableDiffusionXLPipeline", "img2img": "StableDiffusionXLImg2ImgPipeline",
             "inpaint": "StableDiffusionXLInpaintPipeline"}


def matches(facts: Facts) -> bool:
    if facts.pipeline:
        known = facts.pipeline in PIPELINES.values()
        return known and facts.unet.get("cross_attention_dim") not in (None, REFINER_TEXT_WIDTH)
    return facts.width(FIRST_CONTEXT) == TEXT_WIDTH


FAMILY = Family(
    name="sdxl", label="Stable Diffusion XL", native_size=1024, pipelines=PIPELINES, matches=matches,
    config="sdxl",
    unet_parameters=2_567_463_684, step_bytes=158, linear_share=0.87,
    steps=25, guidance_scale=6.0,
    text_encoders=(("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")),
    # It was trained on the last layer but one, before the final norm, of both encoders.
    skip_offset=1, final_norm=False, pooled="text_encoder_2",
    lora=LoraFacts(context_width=TEXT_WIDTH, base_version="sdxl_base_v1-0", numbered=True,
                   architecture="stable-diffusion-xl-v1-base", sidecar="SDXL",
                   encoder_names={"text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
                   implementation="https://github.com/Stability-AI/generative-models"),
    # Factors fitted by users of the model, as published in ComfyUI's latent_formats.py.
    latent_rgb=((0.3651, 0.4232, 0.4341), (-0.2533, -0.0042, 0.1068), (0.1076, 0.1111, -0.0362),
                (-0.3165, -0.2492, -0.2188)),
    latent_rgb_bias=(0.1084, -0.0175, -0.0011),
    half_vae=False)
