"""Write families.md, which says what each family of models can do: python -m docs.families

The table is made of the facts in pipelines/families; a test fails when the page is older than they are.
"""

from __future__ import annotations

from pathlib import Path

from pipelines.families import FAMILIES, Family

PAGE = Path(__file__).parent / "families.md"

# What the library's automatic pipelines know besides, and why it is not here. By the key of its table.
LEFT_OUT = {
    "if": "DeepFloyd IF draws 64 px and needs two further models to enlarge that.",
    "kandinsky": "Kandinsky 2.1 stores its text encoder under a class of the pipeline's own module; only classes that "
                 "diffusers and transformers offer by name are loaded.",
    "wuerstchen": "Würstchen stores its autoencoder under a class of the pipeline's own module.",
    "cascade": "Stable Cascade stores its autoencoder under a class of the pipeline's own module.",
    "kolors": "Kolors needs the package sentencepiece, which nothing else here needs.",
    "prx": "PRX needs the package ftfy, which nothing else here needs.",
    "flux2": "FLUX.2 dev reads its prompt with a processor of Mistral 3 that needs torchvision.",
    "qwenimage21": "Qwen-Image 2.1 reads its prompt with a processor of Qwen3-VL that needs torchvision.",
    "nucleusmoe-image": "Nucleus-Image reads its prompt with a processor of Qwen3-VL that needs torchvision.",
    "glm_image": "GLM-Image first writes its picture as words, in a step that can be neither watched nor stopped.",
    "z-image-omni": "Z-Image Omni edits several pictures at once, which no page here offers.",
    "ideogram4": "Ideogram 4 takes a guidance for each step instead of one.",
    "helios": "Helios makes films.",
    "helios-pyramid": "Helios makes films.",
}
VARIANTS = ("controlnet", "pag", "control")  # of the families above, which need a further network or change guidance

HEAD = """# Families of models

What a model can do here depends on its family, which is told from its content. Stable Diffusion 1.x, 2.x and XL have
a denoising loop of their own and take every control; the others are run by the diffusers library's own pipelines from
diffusers folders, with safetensors weights only. For those, what a control would not change is refused: sampler and
schedule (the model's own), clip skip, variation, tiling and hires fix. Embeddings and the weights of words have no
effect on them, and the page says so when a prompt has some. LoRAs work with all: in the names of diffusers' layers
everywhere, and in those of the original model ("all names") where the library can turn them. Previews are drawn by a
linear map that is fitted to the model's own autoencoder.

Steps and guidance are those of a family's usual model. Relatives that a folder tells apart get their own: FLUX.1
schnell, the bases of FLUX.2 klein and Z-Image, the distilled Krea 2, Stable Diffusion 3.5 medium and large.

Each of them is tested with a tiny random model of the real classes, not with published weights.

This page is written by `python -m docs.families`.

"""
COLUMNS = ("Family", "Text to image", "Image to image", "Inpainting", "Strength", "Negative prompt", "LoRAs", "Files",
           "Size (px)", "Sides in", "Steps", "Guidance")


def page() -> str:
    """The whole page."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *map(_row, sorted(FAMILIES.values(), key=_order))]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    reasons = "\n".join(f"- {reason}" for reason in dict.fromkeys(LEFT_OUT.values()))
    return f"{HEAD}{table}\n\n## Not supported\n\n{reasons}\n"


def _order(family: Family) -> tuple[bool, str]:
    return family.stock is not None, family.label


def _row(family: Family) -> tuple[str, ...]:
    stock = family.stock
    noised = [task for task in ("img2img", "inpaint")
              if task in family.pipelines and "strength" in family.provides(task)]
    strength = {0: "-", 2: "yes"}.get(len(noised), "image to image" if "img2img" in noised else "inpainting")
    return (family.label, *(_yes(task in family.pipelines) for task in ("txt2img", "img2img", "inpaint")),
            strength, _yes(stock is None or stock.negative), _loras(family),
            "folder, single file" if family.config else "folder", str(family.native_size), f"{family.grain} px",
            str(family.steps), f"{family.guidance_scale:g}")


def _loras(family: Family) -> str:
    import diffusers

    pipeline = getattr(diffusers, next(iter(family.pipelines.values())))
    return "all names" if family.lora or hasattr(pipeline, "lora_state_dict") else "diffusers' names"


def _yes(answer: bool) -> str:
    return "yes" if answer else "-"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
