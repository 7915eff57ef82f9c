"""LoRA tags in a prompt, as AUTOMATIC1111 writes them: <lora:name:text encoder weight:U-Net weight>. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

TAG = re.compile(r"<(?:lora|lyco):([^<>]*)>", re.IGNORECASE)
NUMBER = re.compile(r"[+-]?(\d{1,9}\.?\d{0,9}|\.\d{1,9})")
MAX_WEIGHT = 10.0


@dataclass(frozen=True)
class Use:
    """An adapter asked for by name, with the weights of its two halves."""

    name: str
    unet_weight: float = 1.0
    te_weight: float = 1.0


def extract(prompt: str) -> tuple[str, tuple[Use, ...]]:
    """Take the tags out of a prompt: (prompt without them, one Use a name in order of appearance).

    The first number is for both halves, the second for the U-Net alone; te= and unet= say it by name. What is no
    number counts as not given, weights stay within +-10, and those of a name used twice add up. Never raises.
    """
    weights: dict[str, tuple[float, float]] = {}
    for tag in TAG.finditer(prompt):
        name, *arguments = tag[1].split(":")
        if name := name.strip():
            unet, te = _weights(arguments)
            before = weights.get(name, (0.0, 0.0))
            weights[name] = _bounded(before[0] + unet), _bounded(before[1] + te)
    if not TAG.search(prompt):
        return prompt, ()
    return TAG.sub("", prompt).strip(), tuple(Use(name, *both) for name, both in weights.items())


def _weights(arguments: list[str]) -> tuple[float, float]:
    """(U-Net weight, text encoder weight) of one tag."""
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    placed = [argument for argument in arguments if "=" not in argument]
    te = _number(named.get("te", placed[0] if placed else ""), 1.0)
    return _number(named.get("unet", placed[1] if len(placed) > 1 else ""), te), te


def _number(text: str, default: float) -> float:
    return _bounded(float(text)) if NUMBER.fullmatch(text := text.strip()) else default


def _bounded(weight: float) -> float:
    return max(-MAX_WEIGHT, min(MAX_WEIGHT, weight))
