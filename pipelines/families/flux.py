"""FLUX.1 (Black Forest Labs 2024), dev and schnell: guidance is told to the model, so one call a step."""

from __future__ import annotations

from .family import Facts, Stock, stock_family


def prefers(facts: Facts) -> dict:
    """schnell was distilled without a guidance embedding, to four steps."""
    return {} if facts.unet.get("guidance_embeds", True) else {"steps": 4, "guidance_scale": 0.0}


FAMILY = stock_family(
    {"txt2img": "FluxPipeline", "img2img": "FluxImg2ImgPipeline", "inpaint": "FluxInpaintPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder", "text_encoder_2"),
          others=("tokenizer", "tokenizer_2", "scheduler"), negative=False),
    name="flux", label="FLUX.1", native_size=1024, unet_parameters=11_900_000_000, steps=28, guidance_scale=3.5,
    prefers=prefers, step_bytes=500)
