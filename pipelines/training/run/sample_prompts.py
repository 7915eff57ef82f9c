"""Sample prompts as kohya's trainer writes them: the prompt, and behind it --n, --w, --h, --s, --d and --l.

Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...errors import quoted

SIZE_STEP = 8  # px
# Flag -> the request's field, and how its value is read.
FLAGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "n": ("negative_prompt", str), "w": ("width", int), "h": ("height", int), "s": ("steps", int),
    "d": ("seed", int), "l": ("guidance_scale", float)}


@dataclass(frozen=True)
class SamplePrompt:
    """line: as it was written. prompt: without flags. values: of fields of a request. unused: what is not read."""

    line: str
    prompt: str
    values: dict[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


def parse(line: str) -> SamplePrompt:
    """Take a sample prompt apart. Raises ValueError for a flag whose value is no number."""
    prompt, *pieces = re.split(r"(?:^|\s+)--(?=[a-z])", line, flags=re.IGNORECASE)
    values: dict[str, Any] = {}
    unused = []
    for piece in pieces:
        flag, _, value = piece.strip().partition(" ")
        name, read = FLAGS.get(flag.lower(), ("", str))
        if not name:
            unused.append(f"--{piece.strip()}")
            continue
        if name in values:
            unused.append(f"--{flag.lower()} {values[name]}")
        try:
            values[name] = read(value.strip())
        except ValueError:
            raise ValueError(f"--{flag} wants a number, not {quoted(value.strip(), 20)}") from None
    for side in ("width", "height"):
        if side in values and values[side] % SIZE_STEP:
            unused.append(f"--{side[0]} {values[side]} (sides are multiples of {SIZE_STEP} px)")
            values[side] -= values[side] % SIZE_STEP
    if values.get("seed", 0) < 0:  # any seed: that of the run
        del values["seed"]
    return SamplePrompt(line, prompt.strip(), values, tuple(unused))
