"""Fooocus's own scheme: one JSON object in `parameters` or UserComment, or copied from its log page with labels.

Source of the keys: modules/meta_parser.py of lllyasviel/Fooocus. Its other scheme is AUTOMATIC1111's (webui.py).
"""

from __future__ import annotations

import re
from typing import Any

from .fields import Draft
from .literal import escape
from .names import rename
from .texts import Texts, add_tags, lora_tag, plain, stem, take, text_of

_TABLE = {"steps": "Steps", "sampler": "Sampler", "scheduler": "Schedule type", "guidance_scale": "CFG scale",
          "seed": "Seed", "base_model_hash": "Model hash", "clip_skip": "Clip skip"}
_STEPS = {"Quality": 60, "Speed": 30, "Extreme Speed": 8, "Lightning": 4, "Hyper-SD": 4}
_SIZE = re.compile(r"\D{0,3}(\d{1,6})\D{1,5}(\d{1,6})\D{0,3}", re.ASCII)
_LORA = re.compile(r"lora_(combined_)?\d{1,3}")


def read(texts: Texts) -> Draft | None:
    """Read the JSON scheme; the log page's labels become its keys."""
    for one in texts.objects.values():
        if "base_model" not in one and "Base Model" not in one:
            continue
        data = {key.casefold().replace(" ", "_"): value for key, value in one.items()}
        if "performance" in data or "sharpness" in data or "styles" in data:
            return _read(data)
    return None


def _read(data: dict[str, Any]) -> Draft:
    draft = Draft("Fooocus", text_of(data.get("prompt")), text_of(data.get("negative_prompt")))
    escape(draft)
    loras = [key for key in data if _LORA.fullmatch(key)]
    name = stem(data.get("base_model"))
    take(draft, data, _TABLE, ["prompt", "negative_prompt", "resolution", *(["base_model"] if name else []), *loras])
    if name:
        draft.pairs["Model"] = name
    if size := _SIZE.fullmatch(text_of(data.get("resolution"))):
        draft.pairs |= {"Size-1": size[1], "Size-2": size[2]}
    elif data.get("resolution") is not None:
        draft.unknown["resolution"] = plain(data["resolution"])
    if "Steps" not in draft.pairs and text_of(data.get("performance")) in _STEPS:
        draft.pairs["Steps"] = str(_STEPS[data["performance"]])
    tags = []
    for key in loras:
        tag = _tag(text_of(data[key]).split(" : "))
        tags += [tag] if tag else []
        if not tag:
            draft.unknown[key] = plain(data[key])
    draft.prompt = add_tags(draft.prompt, tags)
    if text_of(data.get("styles")).strip("[] "):
        draft.notes.append(f"Styles: {data['styles'][:200]} are Fooocus's own. The prompt is the one that was typed; "
                           "what they made of it is listed as full_prompt.")
    rename(draft)
    return draft


def _tag(parts: list[str]) -> str:
    """`[on :] name : weight` as a tag; "" for one that is off."""
    if len(parts) == 3 and parts.pop(0) != "True":
        return ""
    return lora_tag(*parts) if len(parts) == 2 else ""
