"""The result of a run as others read it: a LoRA file, or for the method full a whole model."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import torch

from ..adapters import names
from ..adapters.parts import LowRank
from ..cache import build
from .base import Base
from .request import TrainLora
from .tensors import sync_folder, write_tensors
from .trainee import Trainee


def parts(trainee: Trainee) -> dict[str, LowRank]:
    """Path -> what was learned for that layer, with the alpha that makes every reader scale as training did."""
    found = {}
    for path, layer in trainee.adapter.layers.items():
        magnitude = None
        if layer.magnitude is not None:
            magnitude = layer.magnitude.detach().cpu().view(-1, *[1] * (layer.down.dim() - 1)).clone()
        found[path] = LowRank(layer.down.detach().cpu().clone(), layer.up.detach().cpu().clone(),
                              alpha=layer.scale * layer.rank, dora_scale=magnitude)
    return found


def write(target: Path, base: Base, trainee: Trainee, config: TrainLora, step: int) -> str:
    """Write the trained weights to target.safetensors (LoRA) or the folder target (full), whole or not at all.

    Returns the name of what was written. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    half = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        if trainee.adapter is None:
            final = target
            build(base.family.name, "txt2img", base.components).save_pretrained(half)
            shutil.rmtree(final, ignore_errors=True)
        else:
            final = target.with_name(f"{target.name}.safetensors")
            _write_lora(half, base, trainee, config, step)
        half.replace(final)
        sync_folder(final.parent)
    finally:
        if half.is_dir():
            shutil.rmtree(half, ignore_errors=True)
        else:
            half.unlink(missing_ok=True)
    return final.name


def _write_lora(path: Path, base: Base, trainee: Trainee, config: TrainLora, step: int) -> None:
    """The names and numbers of kohya's format (kohya-ss/sd-scripts, networks/lora.py)."""
    known = names.kohya(SimpleNamespace(**base.components), base.family)
    tensors: dict[str, torch.Tensor] = {}
    for layer, part in parts(trainee).items():
        key = known[layer]
        tensors[f"{key}.lora_down.weight"] = part.down
        tensors[f"{key}.lora_up.weight"] = part.up
        tensors[f"{key}.alpha"] = torch.tensor(part.alpha)
        if part.dora_scale is not None:
            tensors[f"{key}.dora_scale"] = part.dora_scale
    write_tensors(path, tensors, facts(base, config, step))


def facts(base: Base, config: TrainLora, step: int) -> dict[str, str]:
    """What a LoRA file says of its making, in the words of kohya-ss/sd-scripts."""
    told = {"ss_network_module": "networks.lora", "ss_network_dim": config.rank, "ss_network_alpha": config.alpha,
            "ss_learning_rate": config.learning_rate, "ss_steps": step, "ss_max_train_steps": config.steps,
            "ss_output_name": config.name, "ss_sd_model_name": base.card.name, "ss_seed": config.seed,
            "ss_resolution": f"({config.resolution}, {config.resolution})", "ss_clip_skip": config.clip_skip,
            "ss_base_model_version": base.family.lora.base_version}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in told.items()}
