"""InvokeAI: `invokeai_metadata` since 3.0, and the older `sd-metadata` and `Dream` chunks.

Source of the keys: invokeai/app/invocations/metadata.py of invoke-ai/InvokeAI.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import quoted
from .fields import Draft
from .hires import scale_between
from .literal import escape
from .missing import tell
from .names import rename
from .texts import Texts, add_tags, items_of, lora_tag, take, text_of

_TABLE = {"steps": "Steps", "scheduler": "Sampler", "cfg_scale": "CFG scale", "cfg_rescale_multiplier":
          "Guidance rescale", "seed": "Seed", "width": "Size-1", "height": "Size-2", "strength": "Denoising strength"}
_OLD = {"steps": "Steps", "sampler": "Sampler", "cfg_scale": "CFG scale", "seed": "Seed", "width": "Size-1",
        "height": "Size-2", "strength": "Denoising strength"}
_DREAM = {"s": "Steps", "S": "Seed", "W": "Size-1", "H": "Size-2", "C": "CFG scale", "A": "Sampler",
          "f": "Denoising strength"}
_WEIGHTS = re.compile(r"[\w)\"](\+\+?|--)(?=[\s,)]|$)|\)[\d.]+")

_CONCEPT = re.compile(r"<([\w .-]{1,200})>")  # an embedding


def read(texts: Texts) -> Draft | None:
    """Read whichever of the three is there, the newest first."""
    draft = _metadata(texts) or _sd_metadata(texts) or _dream(texts)
    if draft:
        draft.prompt, draft.negative = (_CONCEPT.sub(r"\1", text) for text in (draft.prompt, draft.negative))
        escape(draft)
        tell(draft)
        if _WEIGHTS.search(draft.prompt[:4_000]):
            draft.notes.append("Prompt: InvokeAI weighs words as in word++ and (words)1.2; write (words:1.2) here.")
        rename(draft)
    return draft


def _metadata(texts: Texts) -> Draft | None:
    data = texts.objects.get("invokeai_metadata") or texts.object_with("positive_prompt", "scheduler") \
        or texts.object_with("positive_prompt", "app_version")
    if data is None:
        return None
    data = dict(data)
    draft = Draft("InvokeAI", text_of(data.pop("positive_prompt", "")), text_of(data.pop("negative_prompt", "")))
    _style_prompts(draft, data)
    if name := _name(data.get("model")):
        base = _base(data.pop("model"))
        draft.pairs["Model"] = name
        _high_resolution_fix(draft, data, base)
    if name := _name(data.get("vae")):
        del data["vae"]
        draft.pairs["VAE"] = name
    skipped = data.get("clip_skip")
    if isinstance(skipped, int) and not isinstance(skipped, bool):
        del data["clip_skip"]
        draft.pairs["Clip skip"] = str(skipped + 1)  # they count skipped layers, we the layer that is read
    seamless = (data.get("seamless_x") is True, data.get("seamless_y") is True)
    if any(seamless):
        draft.pairs["Tiling"] = {(True, False): "x", (False, True): "y"}.get(seamless, "True")
    loras = items_of(data.get("loras"))
    tags = [lora_tag(_name(one.get("model", one.get("lora"))), one.get("weight")) for one in loras]
    draft.prompt = add_tags(draft.prompt, filter(None, tags))
    handled = ["seamless_x", "seamless_y"]
    if all(tags):
        handled.append("loras")
    else:
        draft.notes.append("LoRAs: one of them has no readable name or weight and was left out.")
    take(draft, data, {key: name for key, name in _TABLE.items() if name not in draft.pairs}, handled)
    return draft


def _style_prompts(draft: Draft, data: dict[str, Any]) -> None:
    """SDXL's second text encoder may read another prompt there, which is one prompt for both here."""
    for key, role in (("positive_style_prompt", "prompt"), ("negative_style_prompt", "negative")):
        style, prompt = text_of(data.pop(key, "")).strip(), getattr(draft, role)
        if style and style not in prompt:
            setattr(draft, role, f"{prompt}, {style}" if prompt else style)
            draft.notes.append(f"Prompt: InvokeAI's style prompt {quoted(style, 80)} was appended; it was for the "
                               "second text encoder alone.")


def _base(model: object) -> str:
    return text_of(model.get("base", model.get("base_model"))) if isinstance(model, dict) else ""


def _high_resolution_fix(draft: Draft, data: dict[str, Any], base: str) -> None:
    """The size is that of the second pass; the first has the model's own area in the same shape.

    Source: invoke-ai/InvokeAI 4.2, invokeai/frontend/web/src/features/nodes/util/graph, calculateHrfRes.
    """
    width, height, own = data.get("width"), data.get("height"), {"sd-1": 512, "sd-2": 768, "sdxl": 1024}.get(base)
    if data.get("hrf_enabled") is not True:
        return
    if not own or not all(isinstance(side, int) and 0 < side < 10_000 for side in (width, height)):
        draft.notes.append("Hires fix: InvokeAI's high-resolution fix was on; its first size is not known, so it was "
                           "left out.")
        return
    shape = width / height
    short = max(own / 2, (own * own / max(shape, 1 / shape)) ** 0.5)
    sides = (short * shape, short) if shape > 1 else (short, short / shape)
    first = tuple(round(int(min(side, most)) / 8) * 8 for side, most in zip(sides, (width, height), strict=True))
    if not all(first) or max(width / first[0], height / first[1]) <= 1:
        draft.notes.append("Hires fix: InvokeAI's high-resolution fix was on, but the picture is no larger than the "
                           "model's own size, so there is no second pass.")
        return
    draft.pairs |= {"Size-1": str(first[0]), "Size-2": str(first[1]),
                    "Hires upscale": scale_between(first, (width, height))}
    del data["width"], data["height"], data["hrf_enabled"]
    method = text_of(data.get("hrf_method"))
    if method == "bilinear":
        del data["hrf_method"]
        draft.pairs["Hires upscaler"] = "Latent"
    if (strength := data.pop("hrf_strength", None)) is not None:
        draft.pairs["Denoising strength"] = str(strength)


def _name(model: object) -> str:
    """Model names are under "name" since 4.0 and under "model_name" before."""
    return text_of(model.get("name")) or text_of(model.get("model_name")) if isinstance(model, dict) else text_of(model)


def _sd_metadata(texts: Texts) -> Draft | None:
    data = texts.objects.get("sd-metadata") or texts.object_with("image", "model_weights")
    if data is None or not isinstance(data.get("image"), dict):
        return None
    image = data["image"]
    prompt = image.get("prompt")
    parts = [text_of(one.get("prompt")) for one in items_of(prompt)] or [text_of(prompt)]
    draft = Draft("InvokeAI", *_both(" ".join(parts)))
    take(draft, data, {"model_weights": "Model", "model_hash": "Model hash"}, ["image"])
    take(draft, image, _OLD, ["prompt"])
    return draft


def _dream(texts: Texts) -> Draft | None:
    """Read the command line of the first versions: `"a cat [dog]" -s 50 -S 1 -W 512 -H 512 -C 7.5 -A k_lms`."""
    line = texts.named.get("Dream", "").strip()
    quoted, _, options = line[1:].rpartition('" ') if line.startswith('"') else ("", "", "")
    if not options:
        return None
    draft = Draft("InvokeAI", *_both(quoted))
    words = options.split()
    for option, value in zip(words, [*words[1:], ""], strict=True):
        if re.fullmatch("-[A-Za-z]", option):
            target, key = (draft.pairs, _DREAM[option[1]]) if option[1] in _DREAM else (draft.unknown, option)
            target[key] = value
    return draft


def _both(prompt: str) -> tuple[str, str]:
    """Split `a cat [dog]` into prompt and negative prompt."""
    negative = re.findall(r"\[([^\[\]]*)\]", prompt)
    return re.sub(r"\[[^\[\]]*\]", "", prompt).strip(" ,"), ", ".join(negative)
