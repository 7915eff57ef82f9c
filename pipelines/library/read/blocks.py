"""The blocks of a U-Net in an original single file, held against those of its family. Imports no torch.

Distilled relatives (Segmind's SSD-1B and small-sd, BK-SDM) leave transformer blocks or whole blocks out. Fewer
transformer blocks are another config; with other blocks the numbers of the layout mean something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...errors import ModelError
from ...families.family import UNET_PREFIX

RESNET = re.compile(re.escape(UNET_PREFIX)
                    + r"((?:input_blocks|middle_block|output_blocks)\.\d+)(?:\.0)?\.in_layers\.0\.")
TRANSFORMER = re.compile(re.escape(UNET_PREFIX)
                         + r"((?:input_blocks|output_blocks)\.\d+|middle_block)\.1\.transformer_blocks\.(\d+)\.")
# Weights that a library packed into fewer bits, by what stands beside them.
PACKED = re.compile(r"\.(quant_state\b.*|absmax|nested_absmax|quant_map|weight_scale_2|qweight|qzeros)$")


def changes(shown: str, keys: Iterable[str], config: Mapping[str, Any], label: str) -> dict[str, object]:
    """What a file's U-Net has otherwise than the config of its family, as entries of that config.

    shown: the file's name. label: of the family. Raises ModelError where no config describes it. A file without whole
    blocks gives nothing: reading it says what is missing.
    """
    keys = tuple(keys)
    if any(key.startswith(UNET_PREFIX) and PACKED.search(key) for key in keys):
        raise ModelError(f"{shown} cannot be used: the weights of its U-Net are packed into fewer bits, which is not "
                         "read. A file in float16 or float8 is.")
    resnets = {found[1] for key in keys if (found := RESNET.match(key))}
    depths: dict[str, int] = {}
    for key in keys:
        if found := TRANSFORMER.match(key):
            depths[found[1]] = max(depths.get(found[1], 0), int(found[2]) + 1)
    down, up, middle = _usual(config)
    usual = {place: depth for level in (*down, *up) for place, depth in level.items()}
    if not resnets or (resnets == {*usual, "middle_block.0", "middle_block.2"} and depths == {
            **{place: depth for place, depth in usual.items() if depth}, "middle_block": middle}):
        return {}
    small = "middle_block" not in depths and "middle_block.2" not in resnets
    here = [{place: depths.get(place, 0) for place in level} for level in (*down, *up)]
    known = {*usual, "middle_block.0", *(() if small else ("middle_block.2",))}
    same_kind = all(bool(level[place]) == bool(usual[place]) for level in here for place in level)
    whole = resnets == known and same_kind
    # A config has no depth of its own for the middle: it is that of the last level, which may use none itself.
    last, middle = next(iter(here[len(down) - 1].values())), depths.get("middle_block", 1)
    if not whole or (not small and ("middle_block" not in depths or last not in (0, middle))):
        raise ModelError(f"{shown} cannot be used: its U-Net has other blocks than {label}, as distilled models have "
                         f"({len(resnets)} instead of {len(usual) + 2}). As a folder in diffusers' layout such a model "
                         "can be loaded.")
    layers = [list(level.values()) if any(level.values()) else 1 for level in here]
    layers[len(down) - 1] = layers[len(down) - 1] if last else middle
    return {"transformer_layers_per_block": layers[:len(down)],
            "reverse_transformer_layers_per_block": layers[len(down):],
            **({"mid_block_type": "UNetMidBlock2D"} if small else {})}


def _usual(config: Mapping[str, Any]) -> tuple[list[dict[str, int]], list[dict[str, int]], int]:
    """Of each level on the way down and up: {block of the original layout: its transformer blocks, 0 for none}; and
    the transformer blocks of the middle."""
    layers, depth = config.get("layers_per_block", 2), config.get("transformer_layers_per_block", 1)
    count = len(config["down_block_types"])
    depth = [depth] * count if isinstance(depth, int) else depth
    down: list[dict[str, int]] = []
    number = 1  # input_blocks.0 is the first convolution
    for level, kind in enumerate(config["down_block_types"]):
        down.append({f"input_blocks.{number + j}": depth[level] if "CrossAttn" in kind else 0 for j in range(layers)})
        number += layers + 1  # behind them stands what halves the size
    up = [{f"output_blocks.{level * (layers + 1) + j}": depth[count - 1 - level] if "CrossAttn" in kind else 0
           for j in range(layers + 1)} for level, kind in enumerate(config["up_block_types"])]
    return down, up, depth[-1]
