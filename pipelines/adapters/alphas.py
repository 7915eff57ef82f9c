"""The alpha of a LoRA whose tensors do not say it: in the file's header, or in the adapter_config.json beside it.

peft keeps its settings out of the tensors: diffusers puts them into the header, by component; peft's own
`save_pretrained` writes a file beside the weights; others put plain keys into the header.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError, quoted
from ..library.read import lora_keys
from ..library.read.card import read_json
from ..library.read.headers import Header
from . import layer_names

PEFT_METADATA = "lora_adapter_metadata"
CONFIG = "adapter_config.json"
PLAIN = ("lora_alpha", "alpha", "network_alpha", "ss_network_alpha")
WEIGHTS = "adapter_model.safetensors"  # the name that peft gives what its config describes
EXPRESSION = frozenset("\\+*?()[]{}|^$")  # marks of a regular expression


@dataclass(frozen=True)
class Alphas:
    """What is said of alpha outside the tensors. of: (layer's path, rank) -> alpha, None when nothing is said.

    of_whole: what a LoKr without factors is multiplied by: peft has alpha / r there, too, and LyCORIS nothing. notes:
    what lies there and was not followed.
    """

    of: Callable[[str, int], float | None]
    of_whole: float = 1.0
    notes: tuple[str, ...] = ()


def alphas(header: Header, path: Path) -> Alphas:
    """Read the settings of a file; those in its header go before those beside it."""
    by_component = _json(header.metadata.get(PEFT_METADATA, ""))
    plain = _plain(header.metadata)
    notes: list[str] = []
    if not by_component and not plain and _is_open(header):
        plain = _beside(path, notes)
    notes += [f"its alpha_pattern {quoted(pattern, 60)} is an expression, which is not followed"
              for settings in (by_component, plain) for key, patterns in settings.items()
              if key.endswith("alpha_pattern") and isinstance(patterns, dict)
              for pattern in patterns if _plain_pattern(pattern) is None]

    def of(layer: str, rank: int) -> float | None:
        component, inner = layer.split(".", 1)
        settings = {key: by_component.get(f"{component}.{key}", plain.get(key))
                    for key in ("lora_alpha", "alpha_pattern", "use_rslora")}
        return _alpha(settings, inner, rank)

    alpha, rank = plain.get("lora_alpha"), plain.get("r")
    of_peft = plain.get("peft_type") == "LOKR" and _is_number(alpha) and _is_number(rank) and rank > 0
    return Alphas(of, alpha / rank if of_peft else 1.0, tuple(notes))


def config_beside(path: Path) -> Path | None:
    """The adapter_config.json that is about this file.

    One that is named like it, as downloads have it; or the one in its folder when the file has peft's own name or is
    the only one there.
    """
    own = path.with_name(f"{path.stem}.{CONFIG}")
    if own.is_file():
        return own
    shared = path.with_name(CONFIG)
    if not shared.is_file():
        return None
    alone = path.name == WEIGHTS or not any(other != path for other in path.parent.glob("*.safetensors"))
    return shared if alone else None


def _is_open(header: Header) -> bool:
    """Whether there are layers of an adapter without a tensor for alpha."""
    named, _ = lora_keys.layers(header.shapes)
    return any("alpha" not in roles and roles.keys() & {*lora_keys.RANK_ROLES, "lokr_w2"} for roles in named.values())


def _beside(path: Path, notes: list[str]) -> dict[str, object]:
    config = config_beside(path)
    if config is None:
        if path.with_name(CONFIG).is_file():
            notes.append(f"the {CONFIG} in its folder may be about another file, so alpha counts as the rank")
        return {}
    try:
        settings = read_json(config)
    except ModelError as error:
        notes.append(str(error).removesuffix("."))
        return {}
    return {**settings, "lora_alpha": settings.get("lora_alpha", settings.get("alpha"))}  # LoHa's and LoKr's name


def _plain(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Settings under plain keys of the header, or as a table under one."""
    for key in ("lora_config", "adapter_config", "peft_config"):
        if settings := _json(metadata.get(key, "")):
            return settings
    alpha = next((value for key in PLAIN if (value := _number(metadata.get(key, ""))) is not None), None)
    if alpha is None:
        return {}
    rslora = metadata.get("use_rslora", metadata.get("rslora", "")).strip().lower() in ("true", "1")
    return {"lora_alpha": alpha, "use_rslora": rslora, "alpha_pattern": _json(metadata.get("alpha_pattern", ""))}


def _alpha(settings: Mapping[str, Any], inner: str, rank: int) -> float | None:
    alpha = settings["lora_alpha"]
    patterns = settings["alpha_pattern"]
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if _matches(pattern, inner):  # the first one counts, as in peft's get_pattern_key
            alpha = value
            break
    if not _is_number(alpha):
        return None
    return alpha * math.sqrt(rank) if settings["use_rslora"] is True else float(alpha)


def _matches(pattern: str, inner: str) -> bool:
    """Whether a pattern is the end of a path, from a dot on; one that begins with ^ is the whole path."""
    plain = _plain_pattern(pattern)
    if not plain:
        return False
    spelled = layer_names.with_text_model(plain).removeprefix("text_model.")
    bare = inner.removeprefix("text_model.")
    return bare == spelled or (bare.endswith(f".{spelled}") and not pattern.startswith("^"))


def _plain_pattern(pattern: str) -> str | None:
    """The path that a pattern stands for; None for a true expression, which would be a program from a stranger."""
    plain = re.sub(r"\\([.])", r"\1", pattern.removeprefix("^").removesuffix("$"))
    return plain if not EXPRESSION & set(plain) else None


def _json(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
