"""Strangers' JSON, read so that nothing in it can hang, recurse or raise."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .fields import Draft

Json = dict[str, Any]  # an object as it was decoded: whatever a stranger wrote
MAX_JSON = 8_000_000  # characters of JSON that are decoded for one picture


@dataclass(frozen=True)
class Texts:
    """What a picture, or a pasted text, says. named: texts by chunk or tag. objects: those that are JSON objects."""

    named: dict[str, str]
    objects: dict[str, Json] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def infotext(self) -> str:
        """The text in AUTOMATIC1111's place, if it is no JSON."""
        name = next((name for name in ("parameters", "UserComment") if self.named.get(name)), "")
        return "" if name in self.objects else self.named.get(name, "")

    def object_with(self, *keys: str) -> Json | None:
        """The first object that has all these keys."""
        return next((one for one in self.objects.values() if all(key in one for key in keys)), None)


def decoded(named: Mapping[str, str]) -> Texts:
    """Decode the texts that hold JSON objects, as far as MAX_JSON characters go."""
    objects, notes, left = {}, [], MAX_JSON
    for name, text in named.items():
        start = text.find("{", 0, 64)
        if start < 0 or text[:start].strip().lower() not in ("", "prompt:", "workflow:"):  # ComfyUI's WebP tags
            continue
        if len(text) > left:
            notes.append(f"{name[:80]}: the text has {len(text):,} characters; as JSON only {MAX_JSON:,} are read.")
            continue
        left -= len(text)
        if (value := load(text[start:])) is not None:
            objects[name] = value
    return Texts(dict(named), objects, tuple(notes))


def looks_like_json(text: str) -> bool:
    """Whether a text begins as an object does; a prompt may begin with a brace as well."""
    return re.match(r'\s{0,64}\{\s{0,64}"', text) is not None


def load(text: object) -> Json | None:
    """Decode a JSON object; None for anything else. NaN and numbers of many digits stay texts."""
    if not isinstance(text, str) or len(text) > MAX_JSON:
        return None
    try:
        value = json.loads(text, parse_constant=str, parse_int=lambda word: int(word) if len(word) < 30 else word)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def plain(value: object) -> str:
    """Write a JSON value as infotext would."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, dict | list):
        try:
            return json.dumps(value, ensure_ascii=False)
        except (ValueError, RecursionError):
            return "..."
    return str(value)


def text_of(value: object) -> str:
    """The value if it is text, and otherwise none."""
    return value if isinstance(value, str) else ""


def items_of(value: object) -> list[Json]:
    """The objects in a list; a list of anything else has none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def stem(path: object) -> str:
    """The name of a model file without folders and ending."""
    name = text_of(path).replace("\\", "/").rpartition("/")[2]
    head, _, ending = name.rpartition(".")
    return head if head and ending.lower() in ("safetensors", "ckpt", "pt", "pth", "bin", "gguf", "sft") else name


def take(draft: Draft, source: Mapping[str, object], table: Mapping[str, str], handled: Iterable[str] = ()) -> None:
    """Fill the pairs of a draft by a table (their key -> AUTOMATIC1111's); everything else becomes unknown.

    handled: keys that the caller reads himself.
    """
    handled = set(handled)
    for key, value in source.items():
        if value is None or key in handled:
            continue
        if key not in table:
            draft.unknown[key] = plain(value)
        elif value != "":
            draft.pairs[table[key]] = plain(value)


def lora_tag(name: object, text_weight: object = 1, unet_weight: object = None) -> str:
    """`<lora:name:weight>`, with two weights where they differ; "" where name or weights are none."""
    name, weights = stem(name), [_number(text_weight)]
    if unet_weight not in (None, text_weight):
        weights.append(_number(unet_weight))
    if not name or None in weights or set(name) & set("<>:\n"):
        return ""
    return f"<lora:{name}:{':'.join(plain(weight) for weight in weights)}>"


def _number(value: object) -> float | None:
    try:
        number = round(float(value), 4) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if abs(number) <= 100 else None  # NaN compares as False


def add_tags(prompt: str, tags: Iterable[str]) -> str:
    """Append LoRA tags to a prompt."""
    return " ".join([prompt, *tags] if prompt else tags)
