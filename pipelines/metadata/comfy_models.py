"""Checkpoint and LoRAs of a ComfyUI graph: what lies between the sampler and the file that was loaded.

Every pack of nodes has loaders and stacks of its own, so that a LoRA is known by what the inputs are called: words
and a number, such as lora_name_2, model_str_2, clip_str_2, or lora_1_name, lora_1_model_strength.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from .comfy_prompts import MAX_CHAIN, TAG, is_carrier, our_tag
from .fields import Draft
from .graph import Graph, Node
from .texts import add_tags, items_of, lora_tag, stem, text_of

_MODELS = ("ckpt_name", "base_ckpt_name", "unet_name", "model_name", "model_path", "checkpoint", "checkpoint_name")
_MAX_LORAS = 50
_MODEL = re.compile(r"((base|opt|in|original|sd|any)_)?(model|unet)(_?(1|a|in|opt))?", re.IGNORECASE)
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")
_STRENGTH = {"strength", "weight", "wt", "str"}
_CLIP = {"clip", "te", "tenc", "two"}  # two: rgthree's strengthTwo
_UNET = {"model", "unet"}
_ON = {"switch", "toggle", "on", "enabled", "enable", "active"}
_NAME = {"name", "file", "path"}
_FILLING = {"lora", "loras", "value"}
_NONE = {"", "none", "off", "disabled"}


def read(draft: Draft, graph: Graph, parts: Sequence[Node], clip_chain: Sequence[Node]) -> None:
    """Take the checkpoint's name, and the LoRAs as tags: those nearest to the checkpoint first."""
    seen: set[str] = set()
    tags: list[str] = []
    for node in islice(graph.walk(list(parts), lambda node: _before(graph, node), seen), MAX_CHAIN):
        tags[:0] = loras(graph, node) or _in_text(graph, node, draft)
        if node.kind == "RescaleCFG" and (rescale := graph.value(node, "multiplier")) is not None:
            draft.pairs["Guidance rescale"] = str(rescale)
        if "Model" not in draft.pairs and (name := stem(graph.peek(node, *_MODELS))):
            graph.value(node, *_MODELS)
            draft.pairs["Model"] = name
    tags += [tag for node in clip_chain if node.id not in seen for tag in loras(graph, node, only_clip=True)]
    tags = [tag for tag in tags if tag not in draft.prompt]
    if len(tags) > _MAX_LORAS:
        draft.notes.append(f"LoRAs: only the first {_MAX_LORAS} of {len(tags):,} were taken.")
    draft.prompt = add_tags(draft.prompt, tags[:_MAX_LORAS])


def _before(graph: Graph, node: Node) -> list[Node]:
    """What a node takes its model from, and the stacks of LoRAs that it applies."""
    names = [name for name, value in node.inputs.items() if isinstance(value, list)][:MAX_CHAIN]
    stacks = [name for name in names if "lora" in name.lower()]
    model = [name for name in names if _MODEL.fullmatch(name)] or [name for name in names if is_carrier(name)]
    if not (model or stacks):
        model = [name for name in names if name in ("", "*", "any", "input", "anything", "source")]
    return [end for name in (*model, *stacks) if (end := graph.follow(node.inputs[name])) is not None]


def loras(graph: Graph, node: Node, *, only_clip: bool = False) -> list[str]:
    """The LoRAs of one loader or stack, as tags: single or numbered inputs, lists, and tags in a text.

    only_clip: the model goes another way, so that only the text encoder has them.
    """
    slots, common = _slots(graph, node)
    mode = text_of(common.get("mode", "")).lower()
    count = common.get("count")
    is_off = _is_off(common.get("on", True))
    tags = []
    for place, slot in ({} if is_off else slots).items():
        if place and isinstance(count, int) and not isinstance(count, bool) and place > count:
            continue
        tag, used = _tag(slot, mode, only_clip)
        graph.take(node, *used)
        tags += [tag] if tag else []
    if used := [name for key, name in common.items() if key.endswith("_input")]:
        graph.take(node, *(used if slots else ()))
    for name, value in islice(node.inputs.items(), MAX_CHAIN):
        found = [] if is_off else _listed(name, value, only_clip)
        if found:
            graph.take(node, name)
        tags += found
    return tags


def _in_text(graph: Graph, node: Node, draft: Draft) -> list[str]:
    """The LoRAs that a node reads from tags in a text; the text is taken where it is nothing else."""
    text = text_of(graph.peek(node, "text", "lora_syntax", "tags"))
    tags = [our_tag(tag, draft) for tag in islice(TAG.finditer(text), _MAX_LORAS + 1)]
    if tags and not TAG.sub("", text).strip(" ,\n"):
        graph.value(node, "text", "lora_syntax", "tags")
    return tags


def _slots(graph: Graph, node: Node) -> tuple[dict[int, dict[str, Any]], dict[str, Any]]:
    """Sort a node's inputs by their number, 0 for none: {number: {role: value, role_input: name}}.

    Beside them what holds for all: mode, count, and on.
    """
    slots: dict[int, dict[str, Any]] = {}
    common: dict[str, Any] = {}
    for name in islice(node.inputs, MAX_CHAIN):
        words = [word.lower() for word in _WORDS.findall(name)]
        numbers = [int(word) for word in words if word.isdecimal() and len(word) < 4]
        role = _role({word for word in words if not word.isdecimal()})
        if not role or len(numbers) > 1:
            continue
        where = common if role in ("mode", "count") or role == "on" and not numbers else \
            slots.setdefault(numbers[0] if numbers else 0, {})
        if role == "name" and "name" not in words and isinstance(node.inputs[name], list):
            continue  # a LoRA that comes from a node of its own
        if (value := graph.peek(node, name)) is not None:
            where |= {role: value, f"{role}_input": name}
    slots = {place: slot for place, slot in slots.items() if isinstance(slot.get("name"), str)}
    if 0 in slots and "on" in common and len(slots) == 1:
        slots[0] |= {"on": common["on"], "on_input": common["on_input"]}
    return slots, common


def _role(words: set[str]) -> str:
    """What an input says of a LoRA by its words; "" for nothing."""
    rest = words - _FILLING
    if "lora" in words and rest <= _NAME:
        return "name"
    if rest & _STRENGTH and rest <= _STRENGTH | _CLIP | _UNET:
        return "clip" if rest & _CLIP else "unet" if rest & _UNET else "both"
    if rest and rest <= _ON:
        return "on"
    if "mode" in rest and rest <= {"mode", "input"}:
        return "mode"
    return "count" if rest in ({"count"}, {"num"}, {"inputcount"}) else ""


def _tag(slot: Mapping[str, Any], mode: str, only_clip: bool) -> tuple[str, list[str]]:
    """One LoRA as a tag, "" for none; and the inputs that were used for it."""
    name = text_of(slot.get("name"))
    if name.strip().lower() in _NONE or _is_off(slot.get("on", True)):
        return "", [slot["name_input"]] if name.strip().lower() in _NONE else []
    both, unet, clip = slot.get("both"), slot.get("unet"), slot.get("clip")
    roles = ["name", "on", *(["both"] if mode.startswith("simple") and both is not None else ["unet", "clip"])]
    if roles[-1] == "both":
        unet = clip = both
    elif unet is None and clip is None:
        unet, roles = 1 if both is None else both, ["name", "on", "both"]
    elif unet is None:  # rgthree: strength is the model's where there is a second one
        unet, roles = clip if both is None else both, ["name", "on", "both", "clip"]
    clip = unet if clip is None else clip
    tag = lora_tag(name, clip, 0 if only_clip else unet)
    return tag, [slot[key] for role in roles if (key := f"{role}_input") in slot] if tag else []


def _listed(name: str, value: object, only_clip: bool) -> list[str]:
    """The LoRAs in an input that holds an object, or a list of them, or their JSON."""
    if isinstance(value, str) and value.lstrip().startswith("[{") and "lora" in f"{name} {value[:2_000]}".lower():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    if isinstance(value, dict) and isinstance(value.get("__value__"), list):
        value = value["__value__"]
    items = [value] if isinstance(value, dict) else items_of(value)
    tags = []
    for item in items[:MAX_CHAIN]:
        slot: dict[str, Any] = {}
        for key, inner in item.items():
            words = {word.lower() for word in _WORDS.findall(key)}
            role = "name" if words <= _NAME | {"lora"} and words else _role(words)
            slot |= {role: inner, f"{role}_input": key} if role and inner is not None else {}
        is_lora = "lora" in item or "lora" in name.lower()
        tags += [_tag(slot, "", only_clip)[0]] if is_lora and isinstance(slot.get("name"), str) else []
    return [tag for tag in tags if tag]


def _is_off(value: object) -> bool:
    return value is False or isinstance(value, str) and value.strip().lower() in ("off", "false", "no", "disabled")
