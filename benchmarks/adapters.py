"""Measure LoRAs on a U-Net and text encoder of published SD 1.5 size: python -m benchmarks.adapters

Prints CPU and wall time of reading and attaching a file of rank 64 and of changing its weight. CPU time is what
other programs on the machine leave alone.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from types import SimpleNamespace
from typing import Any

from pipelines.machine import deferred_import

RANK, ROUNDS = 64, 3
TARGETS = {"attach": 1.0, "change a weight": 0.02}  # seconds


def published_pipe() -> Any:
    """The two networks that a LoRA changes, in bfloat16, with whatever numbers the memory held."""
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from pipelines.families.clip import CONFIGS

    def config(part: str) -> dict[str, Any]:
        return json.loads((CONFIGS / "sd15" / part / "config.json").read_text())

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config("unet"))
        encoder = CLIPTextModel(CLIPTextConfig(**config("text_encoder")))
    return SimpleNamespace(**{name: network.to(torch.bfloat16).to_empty(device="cpu")
                              for name, network in (("unet", unet), ("text_encoder", encoder))})


def write_file(path: Path, pipe: Any) -> Path:
    """A kohya file of RANK for every attention layer of both networks."""
    import torch

    from pipelines.adapters import layer_names, write
    from pipelines.adapters.delta import LowRank
    from pipelines.families import FAMILIES

    parts = {name: LowRank(torch.full((RANK, *layer.weight.shape[1:]), 0.01),
                           torch.full((len(layer.weight), RANK, *[1] * (layer.weight.ndim - 2)), 0.01), RANK / 2)
             for name, layer in layer_names.layers(pipe).items() if ".attentions." in name or ".layers." in name}
    return write.write_kohya(path, parts, pipe, FAMILIES["sd15"], write.About("ink"))


def measure() -> dict[str, list[tuple[float, float]]]:
    """{what: [(CPU seconds, wall seconds) of each round]}."""
    from pipelines.adapters.apply import applied
    from pipelines.adapters.read import read
    from pipelines.families import FAMILIES

    pipe, times = published_pipe(), {name: [] for name in TARGETS}
    with tempfile.TemporaryDirectory() as folder:
        path = write_file(Path(folder) / "ink.safetensors", pipe)
        for _ in range(ROUNDS):
            begin = process_time(), perf_counter()
            with applied(pipe, [(read(path, pipe, FAMILIES["sd15"]), 1.0, 1.0)]) as report:
                times["attach"].append((process_time() - begin[0], perf_counter() - begin[1]))
                begin = process_time(), perf_counter()
                report.weights[0].unet = 0.5
                times["change a weight"].append((process_time() - begin[0], perf_counter() - begin[1]))
    return times


if __name__ == "__main__":
    deferred_import.postpone()
    for name, rounds in measure().items():
        cpu, wall = (min(column) for column in zip(*rounds, strict=True))
        print(f"{name:16} {1000 * cpu:8.2f} ms CPU {1000 * wall:8.2f} ms wall, at most {1000 * TARGETS[name]:.0f} ms")
