"""Stable Diffusion 1.x (Rombach et al. 2022, arXiv:2112.10752): CLIP ViT-L/14, 512 px."""

from __future__ import annotations

from .family import UNET_PREFIX, Facts, Family, LoraFacts

TEXT_WIDTH = 768
SD2_TEXT_WIDTH = 1024
FIRST_CONTEXT = UNET_PREFIX + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
PIPELINES = {"txt2img": "StableDiffusionPipeline", "img2img": "StableDiffusionImg2ImgPipeline",
             "inpaint": "StableDiffusionInpaintPipeline"}

# Distilled to a few steps (Luo et al. 2023, arXiv:2310.04378); our loop tells their U-Net the guidance.
DISTILLED = ("LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline")


def matches(facts: Facts) -> bool:
    # Folders of any other text width are small relatives, such as the embedded model.
    if facts.pipeline:
        known = facts.pipeline in (*PIPELINES.values(), *DISTILLED)
        return known and facts.unet.get("cross_attention_dim") not in (None, SD2_TEXT_WIDTH)
    return facts.width(FIRST_CONTEXT) == TEXT_WIDTH


def prefers(facts: Facts) -> dict:
    """What a latent consistency model likes."""
    few = {"steps": 4, "guidance_scale": 8.5, "sampler": "LCM", "schedule": "Automatic"}
    return few if facts.pipeline in DISTILLED else {}


FAMILY = Family(
    name="sd15", label="Stable Diffusion 1.x", native_size=512, pipelines=PIPELINES, matches=matches, config="sd15",
    unet_parameters=859_520_964, step_bytes=260, linear_share=0.31, prefers=prefers,
    lora=LoraFacts(context_width=TEXT_WIDTH, base_version="sd_v1", architecture="stable-diffusion-v1", sidecar="SD1"),
    # Factors fitted by users of the model, as published in ComfyUI's latent_formats.py.
    latent_rgb=((0.3512, 0.2297, 0.3227), (0.3250, 0.4974, 0.2350), (-0.2829, 0.1762, 0.2721),
                (-0.2120, -0.2616, -0.7177)))
