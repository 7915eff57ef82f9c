"""Trained parts -> files that this and other programs read. An exporter of our own, because the libraries' one loses
alpha, text_model and DoRA's magnitudes.

The kohya kind is read everywhere; the peft kind is diffusers' own. A file appears whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from ..errors import ModelError
from ..families import Family
from ..library.read.headers import read_header
from . import layer_names
from .alphas import PEFT_METADATA
from .delta import LowRank

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

LEGACY_HASH = slice(0x100000, 0x110000)  # the bytes that AUTOMATIC1111's first hash looked at


@dataclass(frozen=True)
class About:
    """What an adapter says of itself.

    name: file stem and ss_output_name. base: name of the model it was trained on. date: ISO 8601 or "".
    training: further facts; keys without ss_, values of any kind that JSON knows.
    """

    name: str
    trigger_words: str = ""
    notes: str = ""
    preferred_weight: float = 1.0
    base: str = ""
    resolution_px: int = 512
    prediction_type: str = "epsilon"
    date: str = ""
    training: Mapping[str, Any] = field(default_factory=dict)


def write_kohya(path: Path, parts: Mapping[str, LowRank], pipe: DiffusionPipeline, family: Family, about: About,
                dtype: torch.dtype = torch.float16) -> Path:
    """Write `path` with kohya's names, and in its header what other programs show. Return `path`.

    Raises ModelError when a number is not finite, and OSError when the disk fails; the old file stays then.
    """
    known = layer_names.kohya(pipe, family)
    tensors: dict[str, Tensor] = {}
    for layer, part in parts.items():
        stem = known[layer]
        tensors[f"{stem}.lora_down.weight"] = _stored(about.name, part.down, dtype)
        tensors[f"{stem}.lora_up.weight"] = _stored(about.name, part.up, dtype)
        tensors[f"{stem}.alpha"] = _stored(about.name, torch.tensor(float(part.alpha)), torch.float32)
        for role, tensor in (("lora_mid.weight", part.mid), ("dora_scale", part.dora_scale)):
            if tensor is not None:
                tensors[f"{stem}.{role}"] = _stored(about.name, tensor, dtype)
    return _write_tensors(path, tensors, _kohya_metadata(parts, family, about))


def write_diffusers(path: Path, parts: Mapping[str, LowRank], pipe: DiffusionPipeline, about: About,
                    dtype: torch.dtype = torch.float16) -> Path:
    """Write `path` with peft's names and settings, as diffusers saves it. Return `path`; raises as `write_kohya`."""
    known = layer_names.diffusers(pipe)
    tensors: dict[str, Tensor] = {}
    for layer, part in parts.items():
        if part.mid is not None:
            raise ModelError(f"{about.name} was not saved: peft has no convolutions in three factors.")
        stem = known[layer]
        tensors[f"{stem}.lora_A.weight"] = _stored(about.name, part.down, dtype)
        tensors[f"{stem}.lora_B.weight"] = _stored(about.name, part.up, dtype)
        if part.dora_scale is not None:
            is_linear = part.down.ndim == 2
            magnitude = part.dora_scale.flatten() if is_linear else part.dora_scale.reshape(1, -1, 1, 1)
            # Without the suffix transformers (5.23) does not find it, and goes on with magnitudes of its own.
            suffix = "" if layer.startswith("unet.") else ".weight"
            tensors[f"{stem}.lora_magnitude_vector{suffix}"] = _stored(about.name, magnitude, dtype)
    settings = json.dumps(_peft_settings(parts), sort_keys=True)
    return _write_tensors(path, tensors, {"format": "pt", PEFT_METADATA: settings})


def write_sidecars(path: Path, family: Family, about: About, preview: Image.Image | None = None) -> None:
    """Write beside a LoRA file what AUTOMATIC1111 reads: NAME.json, and NAME.png as the picture of its card."""
    said = {"description": about.notes, "sd version": family.lora.sidecar, "activation text": about.trigger_words,
            "preferred weight": about.preferred_weight, "notes": about.notes}
    text = json.dumps(said, ensure_ascii=False, indent=2).encode()
    _write_whole(path.with_suffix(".json"), [text], lambda half: json.loads(half.read_bytes()))
    if preview is not None:
        _write_image(path.with_suffix(".png"), preview)


def _kohya_metadata(parts: Mapping[str, LowRank], family: Family, about: About) -> dict[str, str]:
    """ss_* as kohya-ss/sd-scripts writes them, modelspec.* (Stability-AI/ModelSpec); every value is text."""
    facts, is_v = family.lora, about.prediction_type == "v_prediction"
    ranks = {part.rank for part in parts.values()}
    alphas = {float(part.alpha) for part in parts.values()}
    said = {
        **{key if key.startswith("ss_") else f"ss_{key}": value for key, value in about.training.items()},
        "ss_output_name": about.name, "ss_network_module": "networks.lora",
        "ss_network_dim": ranks.pop() if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": alphas.pop() if len(alphas) == 1 else "Dynamic",
        "ss_base_model_version": facts.base_version + ("_v" if is_v and facts.architecture_v else ""),
        "ss_v2": str(bool(facts.architecture_v)), "ss_sd_model_name": about.base,
        "modelspec.sai_model_spec": "1.0.1", "modelspec.title": about.name,
        "modelspec.architecture": f"{is_v and facts.architecture_v or facts.architecture}/lora",
        "modelspec.implementation": facts.implementation,
        "modelspec.resolution": f"{about.resolution_px}x{about.resolution_px}",
        "modelspec.prediction_type": "v" if is_v else "epsilon",
        "modelspec.trigger_phrase": about.trigger_words, "modelspec.description": about.notes,
        "modelspec.date": about.date}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in said.items() if value != ""}


def _peft_settings(parts: Mapping[str, LowRank]) -> dict[str, object]:
    """LoraConfig's arguments for each component, as diffusers keeps them in a file's header."""
    settings: dict[str, Any] = {}
    for component in layer_names.COMPONENTS:
        inner = {layer.split(".", 1)[1].removeprefix("text_model."): part for layer, part in parts.items()
                 if layer.startswith(f"{component}.")}
        if not inner:
            continue
        rank = Counter(part.rank for part in inner.values()).most_common(1)[0][0]
        alpha = Counter(part.alpha for part in inner.values()).most_common(1)[0][0]
        said = {"r": rank, "lora_alpha": alpha, "target_modules": sorted(inner), "use_rslora": False,
                "use_dora": any(part.dora_scale is not None for part in inner.values()),
                "rank_pattern": {path: part.rank for path, part in inner.items() if part.rank != rank},
                "alpha_pattern": {path: part.alpha for path, part in inner.items() if part.alpha != alpha}}
        settings |= {f"{component}.{key}": value for key, value in said.items()}
    return settings


def _write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Path:
    """Write a safetensors file whose sshs_model_hash covers the tensors alone, so that other words do not change it."""
    plain = save(tensors, {key: value for key, value in metadata.items() if key.startswith("ss_")})
    length = int.from_bytes(plain[:8], "little")
    body = memoryview(plain)[8 + length:]
    digest = hashlib.sha256(body).hexdigest()
    if PEFT_METADATA not in metadata:
        metadata = {**metadata, "sshs_model_hash": digest,
                    "sshs_legacy_hash": hashlib.sha256(plain[LEGACY_HASH]).hexdigest()[:8]}
    header = json.dumps({**json.loads(plain[8:8 + length]), "__metadata__": metadata}).encode()
    header += b" " * (-len(header) % 8)

    def check(half: Path) -> None:
        start = read_header(half).start
        with half.open("rb") as file:
            file.seek(start)
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise OSError(f"{path.name}: the disk gave back other bytes than were written.")

    _write_whole(path, [len(header).to_bytes(8, "little"), header, body], check)
    return path


def _write_image(path: Path, image: Image.Image) -> None:
    from io import BytesIO

    buffer = BytesIO()
    image.convert("RGB").save(buffer, "PNG")
    _write_whole(path, [buffer.getvalue()], lambda half: Image.open(half).verify())


def _write_whole(path: Path, chunks: Iterable[bytes], check: Callable[[Path], object]) -> None:
    """Write beside `path`, flush to the disk, check what can be read back, and only then take the place of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with half.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        check(half)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy for the file; one with numbers that `dtype` has no room for stays float32."""
    whole = tensor.detach().cpu().float()
    if not torch.isfinite(whole).all():
        raise ModelError(f"{name} was not saved: its weights hold numbers that are not finite.")
    small = whole.to(dtype)
    return (small if torch.isfinite(small).all() else whole).contiguous()
