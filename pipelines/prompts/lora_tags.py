"""LoRA tags in a prompt, as AUTOMATIC1111 writes them: <lora:name:text encoder weight:U-Net weight>. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import quoted

TAG = re.compile(r"<(?:lora|lyco):([^<>]*)>", re.IGNORECASE)
NUMBER = re.compile(r"[+-]?(\d{1,9}\.?\d{0,9}|\.\d{1,9})", re.ASCII)
MAX_WEIGHT = 10.0
BLOCKS = re.compile(r"(lbw|lbwe|in|mid|out|blocks?)\w*=", re.IGNORECASE)  # strengths by block, in two extensions' words


@dataclass(frozen=True)
class Use:
    """An adapter asked for by name, with the weights of its two halves. unread: what else stands in its tags."""

    name: str
    unet_weight: float = 1.0
    te_weight: float = 1.0
    unread: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence about each part of a tag that has no effect."""
        return tuple(f"{self.name}: {quoted(part)} in its tag is not read: it has one strength for all blocks."
                     if BLOCKS.match(part) else f"{self.name}: {quoted(part)} in its tag is not read."
                     for part in self.unread)


def extract(prompt: str) -> tuple[str, tuple[Use, ...]]:
    """Take the tags out of a prompt: (prompt without them, one Use a name in order of appearance).

    The first number is for both halves, the second for the U-Net alone; te= and unet= say it by name. What is no
    number counts as not given, weights stay within +-10, and those of a name used twice add up. Never raises.
    """
    uses: dict[str, Use] = {}
    for tag in TAG.finditer(prompt):
        name, *arguments = tag[1].split(":")
        if name := name.strip():
            unet, te, unread = _weights(arguments)
            before = uses.get(name, Use(name, 0.0, 0.0))
            uses[name] = Use(name, _bounded(before.unet_weight + unet), _bounded(before.te_weight + te),
                             tuple(dict.fromkeys((*before.unread, *unread))))
    if not TAG.search(prompt):
        return prompt, ()
    return TAG.sub("", prompt).strip(), tuple(uses.values())


def _weights(arguments: list[str]) -> tuple[float, float, list[str]]:
    """(U-Net weight, text encoder weight, what is not read) of one tag."""
    named = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    placed = [argument for argument in arguments if "=" not in argument]
    te = _number(named.get("te", placed[0] if placed else ""), 1.0)
    unet = _number(named.get("unet", placed[1] if len(placed) > 1 else ""), te)
    known = {f"{name}={named[name]}" for name in ("te", "unet") if NUMBER.fullmatch(named.get(name, "").strip())}
    known |= {text for text in placed[:2] if NUMBER.fullmatch(text.strip())}
    unread = [text.strip() for text in arguments if text.strip() and text not in known]
    unread += [text.strip() for text in placed[2:] if text in known]
    return unet, te, unread


def _number(text: str, default: float) -> float:
    return _bounded(float(text)) if NUMBER.fullmatch(text := text.strip()) else default


def _bounded(weight: float) -> float:
    return max(-MAX_WEIGHT, min(MAX_WEIGHT, weight))
