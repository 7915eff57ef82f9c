"""Z-Image (Tongyi-MAI 2025, arXiv:2511.22699), the base and the distilled Turbo."""

from __future__ import annotations

from .family import Facts, Stock, stock_family

BASE_SHIFT = 6.0  # of the base's scheduler_config.json; Turbo's says 3


def prefers(facts: Facts) -> dict:
    """The base was not distilled: the card of Tongyi-MAI/Z-Image asks for 28 to 50 steps and a guidance of 3 to 5."""
    shift = facts.scheduler.get("shift")
    is_base = isinstance(shift, (int, float)) and shift >= BASE_SHIFT
    return {"steps": 50, "guidance_scale": 4.0} if is_base else {}


# Turbo makes 8 steps: the 9 of its card count one that did nothing until diffusers' pull request 13730 left it out.
FAMILY = stock_family(
    {"txt2img": "ZImagePipeline", "img2img": "ZImageImg2ImgPipeline", "inpaint": "ZImageInpaintPipeline"},
    Stock(networks=("transformer", "vae", "text_encoder"), others=("tokenizer", "scheduler")),
    name="z_image", label="Z-Image", native_size=1024, unet_parameters=6_150_000_000, steps=8, guidance_scale=0.0,
    prefers=prefers)
