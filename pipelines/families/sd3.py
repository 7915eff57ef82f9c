"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv:2403.03206): two CLIPs and a T5 that may be left out."""

from __future__ import annotations

from .family import Facts, Stock, stock_family

LAYERS_OF_LARGE = 38
# Large and its turbo have one config, scheduler and shift of 3, so the person is told what the turbo's card asks for.
TURBO_LOOKS_THE_SAME = "if this is the turbo, take 4 steps and guidance 0"


def prefers(facts: Facts) -> dict:
    """3.5 is told by its norms, and its large form by its depth; their cards on the hub say what they like."""
    if not facts.unet.get("qk_norm"):
        return {}
    if facts.unet.get("num_layers") == LAYERS_OF_LARGE:
        return {"steps": 28, "guidance_scale": 3.5, "note": TURBO_LOOKS_THE_SAME}
    return {"steps": 40, "guidance_scale": 4.5}


FAMILY = stock_family(
    {"txt2img": "StableDiffusion3Pipeline", "img2img": "StableDiffusion3Img2ImgPipeline",
     "inpaint": "StableDiffusion3InpaintPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"),
          others=("tokenizer", "tokenizer_2", "tokenizer_3", "scheduler"),
          optional=("text_encoder_3", "tokenizer_3")),
    name="sd3", label="Stable Diffusion 3", native_size=1024, unet_parameters=2_200_000_000, steps=28,
    guidance_scale=7.0, prefers=prefers, step_bytes=170)
