"""Kandinsky 2.2 (Razzhigaev et al. 2023, arXiv:2310.03502), prior and decoder in one folder."""

from __future__ import annotations

from .family import Facts, Stock, stock_family


def prefers(facts: Facts) -> dict:
    """The decoder for inpainting is another checkpoint, whose U-Net takes mask and picture as well."""
    return {"tasks": ("inpaint",) if facts.in_channels == 9 else ("txt2img", "img2img")}


FAMILY = stock_family(
    {"txt2img": "KandinskyV22CombinedPipeline", "img2img": "KandinskyV22Img2ImgCombinedPipeline",
     "inpaint": "KandinskyV22InpaintCombinedPipeline"},
    Stock(networks=("unet", "movq", "prior_prior", "prior_image_encoder", "prior_text_encoder"),
          others=("scheduler", "prior_tokenizer", "prior_scheduler", "prior_image_processor"), grain=64,
          strength=("img2img",), latents="nothing"),
    core="unet", name="kandinsky2", label="Kandinsky 2.2", native_size=512, unet_parameters=1_250_000_000, steps=50,
    guidance_scale=4.0, sampler="DDPM", prefers=prefers)
