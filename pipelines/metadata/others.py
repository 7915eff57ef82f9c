"""Tools whose settings are one flat object: Civitai's site, Draw Things, Easy Diffusion."""

from __future__ import annotations

import html
import re
from typing import Any

from .fields import Draft
from .names import rename
from .texts import Texts, add_tags, items_of, load, lora_tag, stem, take, text_of
from .webui import take_resources

_SIZE = re.compile(r"(\d{1,6})\s?[x*]\s?(\d{1,6})", re.ASCII)
_CIVITAI = {"steps": "Steps", "sampler": "Sampler", "cfgScale": "CFG scale", "seed": "Seed", "width": "Size-1",
            "height": "Size-2", "clipSkip": "Clip skip", "denoise": "Denoising strength", "Model": "Model",
            "Model hash": "Model hash", "Clip skip": "Clip skip", "Schedule type": "Schedule type",
            "Denoising strength": "Denoising strength", "Hires upscale": "Hires upscale",
            "Hires upscaler": "Hires upscaler", "Hires steps": "Hires steps", "Hires resize": "Hires resize",
            "VAE": "VAE"}
_DRAW_THINGS = {"steps": "Steps", "sampler": "Sampler", "scale": "CFG scale", "seed": "Seed",
                "strength": "Denoising strength"}
_EASY_DIFFUSION = {"num_inference_steps": "Steps", "sampler_name": "Sampler", "scheduler_name": "Schedule type",
                   "guidance_scale": "CFG scale", "seed": "Seed", "width": "Size-1", "height": "Size-2",
                   "prompt_strength": "Denoising strength"}


def civitai(texts: Texts) -> Draft | None:
    """Read the settings as Civitai's site and programming interface write them."""
    data = texts.object_with("prompt", "cfgScale") or texts.object_with("prompt", "negativePrompt")
    data = data or _extra_metadata(texts)
    if data is None:
        return None
    draft = Draft("Civitai", text_of(data.get("prompt")), text_of(data.get("negativePrompt")))
    take(draft, data, _CIVITAI, ["prompt", "negativePrompt"])
    _take_size(draft, "Size")
    if draft.pairs.get("Sampler") == "Undefined":
        del draft.pairs["Sampler"]
    take_resources(draft, items_of(data.get("resources")) + items_of(data.get("civitaiResources")))
    rename(draft)
    return draft


def _extra_metadata(texts: Texts) -> dict[str, Any] | None:
    """Civitai's generator is a ComfyUI graph with the settings spelled out beside its nodes."""
    graph = texts.object_with("extraMetadata")
    extra = graph["extraMetadata"] if graph else None
    data = extra if isinstance(extra, dict) else load(extra)
    return data if data and "prompt" in data else None


def draw_things(texts: Texts) -> Draft | None:
    """Read Draw Things: JSON in the UserComment of an XMP packet."""
    comment = next((text for text in texts.named.values() if "exif:UserComment" in text), "")
    data = load(_inside(comment)) or texts.object_with("c", "uc")
    if data is None or "c" not in data:
        return None
    draft = Draft("Draw Things", text_of(data["c"]), text_of(data.get("uc")))
    tags = [lora_tag(one.get("model"), one.get("weight", 1)) for one in items_of(data.get("lora"))]
    name = stem(data.get("model"))
    take(draft, data, _DRAW_THINGS, ["c", "uc", *(["model"] if name else []), *(["lora"] if all(tags) else [])])
    _take_size(draft, "size")
    if name:
        draft.pairs["Model"] = name
    draft.prompt = add_tags(draft.prompt, filter(None, tags))
    rename(draft)
    return draft


def _inside(packet: str) -> str:
    """The text of exif:UserComment, without an XML parser, whose entities a stranger could nest."""
    _, _, rest = packet.partition("<exif:UserComment>")
    body, end, _ = rest.partition("</exif:UserComment>")
    return html.unescape(re.sub(r"<[^<>]*>", "", body)).strip() if end else ""


def easy_diffusion(texts: Texts) -> Draft | None:
    """Read Easy Diffusion: every setting a chunk of its own, or all in one object."""
    data = texts.named if "num_inference_steps" in texts.named else texts.object_with("num_inference_steps", "prompt")
    if data is None:
        return None
    draft = Draft("Easy Diffusion", text_of(data.get("prompt")), text_of(data.get("negative_prompt")))
    names, weights = ([*value] if isinstance(value, list) else [value]
                      for value in (data.get("use_lora_model"), data.get("lora_alpha", 1)))
    tags = [lora_tag(name, weight) for name, weight in zip(names, weights, strict=False)]
    read = len(names) == len(weights) and all(tags)
    take(draft, data, _EASY_DIFFUSION, ["prompt", "negative_prompt", "use_stable_diffusion_model", "clip_skip",
                                        "tiling", *(["use_lora_model", "lora_alpha"] if read else [])])
    if name := stem(data.get("use_stable_diffusion_model")):
        draft.pairs["Model"] = name
    if data.get("clip_skip") in (True, "True", "true"):
        draft.pairs["Clip skip"] = "2"
    if tiling := {"x": "x", "y": "y", "xy": "True"}.get(text_of(data.get("tiling"))):
        draft.pairs["Tiling"] = tiling
    draft.prompt = add_tags(draft.prompt, filter(None, tags))
    rename(draft)
    return draft


def _take_size(draft: Draft, key: str) -> None:
    if found := _SIZE.fullmatch(draft.unknown.get(key, "")):
        del draft.unknown[key]
        draft.pairs |= {"Size-1": found[1], "Size-2": found[2]}
