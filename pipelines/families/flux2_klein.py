"""FLUX.2 klein (Black Forest Labs 2026), distilled to four steps, with Qwen3 as its text encoder."""

from __future__ import annotations

from .family import Facts, Stock, stock_family


def prefers(facts: Facts) -> dict:
    """The base it was distilled from needs the pipeline's own defaults."""
    return {} if facts.index.get("is_distilled", True) else {"steps": 50, "guidance_scale": 4.0}


FAMILY = stock_family(
    {"txt2img": "Flux2KleinPipeline", "img2img": "Flux2KleinPipeline", "inpaint": "Flux2KleinInpaintPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler"),
          settings=("is_distilled",), negative=False, strength=("inpaint",), latents="norm"),
    name="flux2_klein", label="FLUX.2 klein", native_size=1024, unet_parameters=4_000_000_000, steps=4,
    guidance_scale=1.0, prefers=prefers)
