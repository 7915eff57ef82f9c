"""The tools that write AUTOMATIC1111's text, each in its own dialect: Forge, SD.Next, Fooocus, Civitai."""

from __future__ import annotations

import json
import re

from .a1111 import PROGRAM, split
from .fields import Draft
from .literal import escape
from .missing import tell
from .names import rename
from .texts import Texts, add_tags, items_of, looks_like_json, lora_tag, plain, stem, text_of

# SD.Next (modules/processing_info.py) and ours.
_SDNEXT = {"Variation strength": "Variation seed strength", "CFG rescale": "Guidance rescale",
           "CFG end": "Guidance end", "Hires scale": "Hires upscale", "Hires strength": "Denoising strength",
           "Mask padding": "Masked area padding", "Sampler spacing": "Schedule type", "Sampler sigma": "Schedule type"}
_SDNEXT_VALUES = {
    "Resize mode": {"Fixed": "stretch", "Crop": "crop", "Fill": "fill", "None": "keep"},
    "Mask invert": {"True": "Inpaint not masked", "1": "Inpaint not masked", "False": "Inpaint masked",
                    "0": "Inpaint masked"},
    "Mask area": {"True": "Only masked", "1": "Only masked", "False": "Whole picture", "0": "Whole picture"}}
_OWN_VAE = {"Default (model)", "Automatic", "None"}  # the checkpoint's, as Fooocus and AUTOMATIC1111 call it
_MAX_LORAS = 50
_LORAS = ("lora", "locon", "dora", "lycoris", "lokr", "loha")
_CHECKPOINTS = ("checkpoint", "model")
_AIR = re.compile(r"urn:air:[\w.-]{1,40}:([\w-]{1,40}):civitai:(\d{1,12}(?:@\d{1,12})?)")
_FILE = re.compile(r"\.(safetensors|ckpt|pt|pth|bin|gguf|sft)$", re.IGNORECASE)
_SDNEXT_KEYS = {"Mask invert": "Mask mode", "Mask area": "Inpaint area"}


def read(texts: Texts) -> Draft | None:
    """Read a text with a line of settings; None where there is none."""
    draft = split(texts.infotext)
    if not draft.pairs or draft.tool == PROGRAM:
        return draft if draft.pairs else None
    version = draft.pairs.get("Version", "")
    if draft.pairs.get("App") == "SD.Next":
        _sdnext(draft)
    elif version.startswith("Fooocus"):
        _fooocus(draft)
    elif any(key.startswith("Civitai") for key in draft.pairs):
        _civitai(draft)
    elif version.startswith("ComfyUI"):  # its picture-saving nodes write this text as well
        draft.tool = "ComfyUI"
    elif version.startswith("stable-diffusion.cpp"):
        draft.tool = "stable-diffusion.cpp"
    else:
        draft.tool = "Forge" if version.startswith(("f0", "f1", "f2", "neo", "classic")) else "AUTOMATIC1111"
    if draft.pairs.get("VAE") in _OWN_VAE:
        del draft.pairs["VAE"]
    for key in ("Model", "VAE"):
        if _FILE.search(draft.pairs.get(key, "")):
            draft.pairs[key] = stem(draft.pairs[key])
    tell(draft)
    rename(draft)
    return draft


def read_bare(texts: Texts) -> Draft | None:
    """Take a text without settings for a prompt."""
    text = texts.infotext
    return split(text) if text.strip() and not looks_like_json(text) else None


def _sdnext(draft: Draft) -> None:
    draft.tool = "SD.Next"
    pairs, draft.pairs = draft.pairs, {}
    for key, value in pairs.items():
        if key in ("Sampler spacing", "Sampler sigma") and value == "default":
            continue
        if key in _SDNEXT_VALUES and value not in _SDNEXT_VALUES[key]:
            draft.unknown[key] = value
            continue
        value = _SDNEXT_VALUES.get(key, {}).get(value, value)
        draft.pairs[_SDNEXT_KEYS.get(key, _SDNEXT.get(key, key))] = value


def _fooocus(draft: Draft) -> None:
    """Fooocus's second scheme: the prompt with its styles spelled out, names of its own, LoRAs beside the prompt."""
    draft.tool = "Fooocus"
    scheduler = draft.pairs.pop("Scheduler", "")
    draft.pairs.setdefault("Schedule type", scheduler or "Automatic")
    weights = [entry.rpartition(": ") for entry in draft.pairs.get("Lora weights", "").split(", ")]
    tags = [lora_tag(name, weight) for name, _, weight in weights[:_MAX_LORAS]]
    escape(draft)
    draft.prompt = add_tags(draft.prompt, [tag for tag in tags if tag not in draft.prompt])


def _civitai(draft: Draft) -> None:
    """Civitai's own generator: resources as inline JSON, and for FLUX a sampler "Undefined"."""
    draft.tool = "Civitai"
    if draft.pairs.get("Sampler") == "Undefined":
        del draft.pairs["Sampler"]
    resources = draft.pairs.get("Civitai resources", "")
    try:
        found = items_of(json.loads(resources, parse_constant=str)) if resources else []
    except (ValueError, RecursionError):
        draft.notes.append("Civitai resources: they could not be read.")
        return
    take_resources(draft, found)


def take_resources(draft: Draft, resources: list[dict]) -> None:
    """Take the checkpoint's name and the LoRAs from Civitai's list of resources; say which have no name."""
    tags = []
    for one in resources[:_MAX_LORAS]:
        kind, name = _kind(one), text_of(one.get("modelName", one.get("name")))
        number, weight = _number(one), one.get("weight", one.get("strength", 1))
        if kind in _CHECKPOINTS and name:
            draft.pairs.setdefault("Model", name)
        elif kind in _LORAS and lora_tag(name, weight):
            tags.append(lora_tag(name, weight))
        elif kind in _CHECKPOINTS and "Model" not in draft.pairs:
            draft.notes.append(f"Model: Civitai names it by its number alone, {number}; choose it yourself.")
        elif kind in _LORAS:
            draft.notes.append(f"LoRAs: Civitai names one by its number alone, {number}, with the weight "
                               f"{plain(weight)[:20]}; it was left out.")
    if len(resources) > _MAX_LORAS:
        draft.notes.append(f"Civitai resources: only the first {_MAX_LORAS} of {len(resources):,} were looked at.")
    tags = [tag for tag in tags if tag.rpartition(":")[0] not in draft.prompt]
    if tags:
        draft.prompt = add_tags(draft.prompt, tags)
        draft.notes.append("LoRAs: Civitai names them by title, so the names in the prompt may differ from your files.")


def _kind(resource: dict) -> str:
    """The kind of a resource, which is also told in other words: `ImageJobNetworkParams { ..., Type = lora }`."""
    kind = text_of(resource.get("type")) or text_of(resource.get("modelType"))
    if found := re.search(r"Type = (\w{1,40})", kind):
        kind = found[1]
    if not kind and (air := _AIR.search(text_of(resource.get("air", resource.get("urn"))))):
        kind = air[1]
    return kind.lower()


def _number(resource: dict) -> str:
    """How a person finds a resource: the number of its version, or of its model."""
    air = _AIR.search(text_of(resource.get("air", resource.get("urn"))))
    number = resource.get("modelVersionId", resource.get("versionId", air[2] if air else resource.get("modelId", "")))
    return plain(number)[:40] or "unknown"
