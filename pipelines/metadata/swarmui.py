"""SwarmUI: `sui_image_params`, and beside it the hashes of the models and what was typed.

Source of the keys: src/Text2Image/T2IParamTypes.cs of mcmonkeyprojects/SwarmUI.
"""

from __future__ import annotations

import re
from typing import Any

from . import literal
from .fields import Draft
from .missing import tell
from .names import rename
from .texts import Texts, add_tags, items_of, lora_tag, plain, stem, take, text_of

_TABLE = {"seed": "Seed", "steps": "Steps", "cfgscale": "CFG scale", "width": "Size-1", "height": "Size-2",
          "sampler": "Sampler", "scheduler": "Schedule type", "variationseed": "Variation seed",
          "variationseedstrength": "Variation seed strength", "initimagecreativity": "Denoising strength",
          "refinerupscale": "Hires upscale", "refinersteps": "Hires steps", "refinercfgscale": "Hires CFG Scale",
          "refinercontrolpercentage": "Denoising strength", "refinersampler": "Hires sampler",
          "refinerscheduler": "Hires schedule type"}
_UPSCALERS = {"latent-bilinear": "Latent", "latent-bicubic": "Latent (bicubic)",
              "latent-nearest-exact": "Latent (nearest)", "pixel-lanczos": "Lanczos"}
_TILING = {"true": "True", "x-only": "x", "y-only": "y"}
_MAX_LORAS = 50
_OWN_VAE = ("", "none", "automatic")
# Tags that only SwarmUI reads; <lora:...> is read here too, and <embed:name> is a name alone.
_EMBED = re.compile(r"<embed(?:ding)?:([^<>:]{1,200})>")
_TAGS = re.compile(r"<(?!lora:)[a-z]{1,20}(?:\[[^\[\]<>]{0,80}\])?(?::[^<>]{0,2000})?>")


def read(texts: Texts) -> Draft | None:
    """Read the object, wherever it stands; older versions wrote no hashes beside it."""
    data = texts.object_with("sui_image_params")
    if data is None or not isinstance(data["sui_image_params"], dict):
        return None
    params = dict(data["sui_image_params"])
    draft = Draft("SwarmUI", text_of(params.pop("prompt", "")), text_of(params.pop("negativeprompt", "")))
    _prompts(draft)
    _second_pass(draft, params)
    _loras(draft, params)
    _models(draft, params, items_of(data.get("sui_models")))
    take(draft, params, _TABLE)
    for name in ("sui_extra_data", "sui_models"):
        if data.get(name):
            draft.unknown[name] = plain(data[name])
    draft.unknown |= {key: plain(value) for key, value in data.items()
                      if key not in ("sui_image_params", "sui_extra_data", "sui_models")}
    tell(draft)
    rename(draft)
    return draft


def _prompts(draft: Draft) -> None:
    draft.prompt, draft.negative = (_EMBED.sub(lambda found: stem(found[1]), text)
                                    for text in (draft.prompt, draft.negative))
    if tags := _TAGS.findall(f"{draft.prompt}\n{draft.negative}"):
        draft.notes.append(f"Prompt: SwarmUI's tags mean nothing here: {', '.join(dict.fromkeys(tags))[:200]}.")
    literal.escape(draft)


def _second_pass(draft: Draft, params: dict[str, Any]) -> None:
    """A refiner step that enlarges with the same model is hires fix; its share of the steps is the strength."""
    upscale = params.get("refinerupscale")
    enlarges = isinstance(upscale, int | float | str) and str(upscale) not in ("", "1", "1.0")
    hires = [key for key in params if key.startswith("refiner")]
    if not enlarges:
        draft.unknown |= {key: plain(params.pop(key)) for key in hires}
        return
    if "initimagecreativity" in params and "refinercontrolpercentage" in params:
        draft.unknown["initimagecreativity"] = plain(params.pop("initimagecreativity"))
    method = text_of(params.get("refinerupscalemethod"))
    if method in _UPSCALERS or method.startswith("model-"):
        del params["refinerupscalemethod"]
        draft.pairs["Hires upscaler"] = _UPSCALERS.get(method) or stem(method.removeprefix("model-"))


def _loras(draft: Draft, params: dict[str, Any]) -> None:
    """LoRAs and their weights are lists, or texts with commas; `loratencweights` are the text encoder's."""
    names, weights, text_weights = (_list(params.get(key)) for key in ("loras", "loraweights", "loratencweights"))
    tags = []
    for place, name in enumerate(names[:_MAX_LORAS]):
        weight = weights[place] if place < len(weights) else 1
        tags.append(lora_tag(name, text_weights[place] if place < len(text_weights) else weight, weight))
    if all(tags) and len(names) <= _MAX_LORAS:
        for key in ("loras", "loraweights", "loratencweights"):
            params.pop(key, None)
    draft.prompt = add_tags(draft.prompt, [tag for tag in tags if tag and tag not in draft.prompt])


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [part.strip() for part in text_of(value).split(",") if part.strip()]


def _models(draft: Draft, params: dict[str, Any], models: list[dict[str, Any]]) -> None:
    if name := stem(params.get("model")):
        del params["model"]
        draft.pairs["Model"] = name
    vae = text_of(params.get("vae"))
    if vae.strip().lower() not in _OWN_VAE:
        del params["vae"]
        draft.pairs["VAE"] = stem(vae)
    hashes = {text_of(one.get("param")): text_of(one.get("hash")).removeprefix("0x") for one in models}
    if hashes.get("model"):
        draft.pairs["Model hash"] = hashes["model"]
    if tiling := _TILING.get(plain(params.get("seamlesstileable")).lower()):
        del params["seamlesstileable"]
        draft.pairs["Tiling"] = tiling
    if (layer := params.pop("clipstopatlayer", None)) is not None:
        draft.pairs["Clip skip"] = plain(layer).removeprefix("-")
