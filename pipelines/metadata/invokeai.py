"""InvokeAI: `invokeai_metadata` since 3.0, and the older `sd-metadata` and `Dream` chunks.

Source of the keys: invokeai/app/invocations/metadata.py of invoke-ai/InvokeAI.
"""

from __future__ import annotations

import re
from typing import Any

from .fields import Draft
from .names import rename
from .texts import Texts, add_tags, items_of, lora_tag, take, text_of

_TABLE = {"steps": "Steps", "scheduler": "Sampler", "cfg_scale": "CFG scale", "cfg_rescale_multiplier":
          "Guidance rescale", "seed": "Seed", "width": "Size-1", "height": "Size-2", "strength": "Denoising strength"}
_OLD = {"steps": "Steps", "sampler": "Sampler", "cfg_scale": "CFG scale", "seed": "Seed", "width": "Size-1",
        "height": "Size-2", "strength": "Denoising strength"}
_DREAM = {"s": "Steps", "S": "Seed", "W": "Size-1", "H": "Size-2", "C": "CFG scale", "A": "Sampler",
          "f": "Denoising strength"}
_WEIGHTS = re.compile(r"[\w)\"](\+\+?|--)(?=[\s,)]|$)|\)[\d.]+")


def read(texts: Texts) -> Draft | None:
    """Read whichever of the three is there, the newest first."""
    draft = _metadata(texts) or _sd_metadata(texts) or _dream(texts)
    if draft:
        if _WEIGHTS.search(draft.prompt[:4_000]):
            draft.notes.append("Prompt: InvokeAI weighs words as in word++ and (words)1.2; write (words:1.2) here.")
        rename(draft)
    return draft


def _metadata(texts: Texts) -> Draft | None:
    data = texts.objects.get("invokeai_metadata") or texts.object_with("positive_prompt", "scheduler") \
        or texts.object_with("positive_prompt", "app_version")
    if data is None:
        return None
    draft = Draft("InvokeAI", text_of(data.get("positive_prompt")), text_of(data.get("negative_prompt")))
    take(draft, data, _TABLE, ["positive_prompt", "negative_prompt", "model", "loras", "clip_skip", "seamless_x",
                               "seamless_y"])
    if name := _name(data.get("model")):
        draft.pairs["Model"] = name
    skipped = data.get("clip_skip")
    if isinstance(skipped, int) and not isinstance(skipped, bool):
        draft.pairs["Clip skip"] = str(skipped + 1)  # they count skipped layers, we the layer that is read
    seamless = (data.get("seamless_x") is True, data.get("seamless_y") is True)
    if any(seamless):
        draft.pairs["Tiling"] = {(True, False): "x", (False, True): "y"}.get(seamless, "True")
    loras = items_of(data.get("loras"))
    tags = [lora_tag(_name(one.get("model", one.get("lora"))), one.get("weight")) for one in loras]
    draft.prompt = add_tags(draft.prompt, filter(None, tags))
    if not all(tags):
        draft.notes.append("LoRAs: one of them has no readable name or weight and was left out.")
    return draft


def _name(model: Any) -> str:
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
