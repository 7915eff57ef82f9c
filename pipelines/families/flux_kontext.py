"""FLUX.1 Kontext (Batifol et al. 2025, arXiv:2506.15742): the prompt says what to change in a picture."""

from __future__ import annotations

from .family import Stock, stock_family

FAMILY = stock_family(
    {"txt2img": "FluxKontextPipeline", "img2img": "FluxKontextPipeline", "inpaint": "FluxKontextInpaintPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder", "text_encoder_2"),
          others=("tokenizer", "tokenizer_2", "scheduler"), negative=False, strength=("inpaint",),
          # The picture was brought to its size before.
          arguments={"_auto_resize": False}),
    name="flux_kontext", label="FLUX.1 Kontext", native_size=1024, unet_parameters=11_900_000_000, steps=28,
    guidance_scale=2.5, step_bytes=1000)
