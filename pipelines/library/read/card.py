"""One checkpoint on disk -> ModelCard: a diffusers folder or an original single file. No weights are read."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...families import FAMILIES, Facts, Family, recognise
from ...families.clip import CONFIGS
from ...families.family import UNET_PREFIX
from . import blocks
from .headers import Header, read_header, small_tensor

MAX_JSON_BYTES = 1_000_000
PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
LIBRARIES = ("diffusers", "transformers")
# Names that an original single file keeps its autoencoder and its text encoders under.
VAE_PREFIX = "first_stage_model."
TEXT_PREFIXES = ("cond_stage_model.", "conditioner.embedders.")
# What a model may say of itself: text, cut to a length, or a number within what a request allows.
LIKED_TEXTS = {"title": 80, "note": 500, "sampler": 40, "schedule": 40}
LIKED_NUMBERS = {"steps": (int, 1, 150), "guidance_scale": (float, 0, 30)}
MAX_EXAMPLES = 20
# Of models that predict v and were trained on noise far beyond the usual (Karras et al. 2022, arXiv:2206.00364).
EDM_MARK = "edm_vpred.sigma_max"
PLAYGROUND_MARK = "edm_mean"
EDM_NOTE = ("Its markers say v, and noise up to the levels of EDM (CosXL). Here it is drawn on the usual noise levels, "
            "so pictures differ from those of other programs.")


@dataclass(frozen=True)
class ModelCard:
    """What is known of a checkpoint before it is loaded.

    name: unique, what requests and infotext carry. path: folder or file; None for a hub model that is not on this
    disk. kind: "folder", "file" or "hub". family: key of FAMILIES. native_size: px. tasks: what it can do.
    inpainting: its U-Net takes 9 channels. scheduler: what is said of the noise, over the scheduler's own config.
    predicts_by: who said what is predicted: "file", "trial", "person" or "" (see prediction.py).
    parameters: how many numbers each network has; a single file's text encoders count as one. fingerprint: changes when
    a file does.
    """

    name: str
    title: str
    path: Path | None
    family: str
    kind: str
    size_bytes: int
    native_size: int
    steps: int
    guidance_scale: float
    sampler: str
    schedule: str
    unet_parameters: int
    fingerprint: str
    note: str = ""
    inpainting: bool = False
    tasks: tuple[str, ...] = ("txt2img", "img2img", "inpaint")
    examples: tuple[dict[str, Any], ...] = field(default=(), compare=False)
    scheduler: Mapping[str, Any] = field(default_factory=dict, compare=False)
    parameters: Mapping[str, int] = field(default_factory=dict, compare=False)
    predicts_by: str = field(default="", compare=False)


def read_file(path: Path, name: str) -> ModelCard:
    """Make the card of a single safetensors file, or raise ModelError with the reason why it cannot be used."""
    refuse_pickle(path)
    header = read_header(path)
    facts = Facts(shapes=header.shapes)
    family = recognise(facts)
    if PLAYGROUND_MARK in header.shapes:
        raise ModelError(f"{path.name[:80]} cannot be used: it is Playground v2.5, which was trained on the noise "
                         "levels of EDM. Here they are not drawn on.")
    missing = [what for what, prefixes in (("autoencoder", (VAE_PREFIX,)), ("text encoder", TEXT_PREFIXES))
               if not any(key.startswith(prefixes) for key in header.shapes)]
    if missing:
        raise ModelError(f"{path.name[:80]} cannot be used: it holds a U-Net but no {' and no '.join(missing)}.")
    # Whether its blocks are of a known kind is to be said where it is listed, not minutes later.
    blocks.changes(path.name[:80], header.shapes, read_json(CONFIGS / family.config / "unet" / "config.json"),
                   family.label)
    settings = family.file_settings(facts, partial(small_tensor, header))
    parameters = {"unet": header.parameters(UNET_PREFIX), "vae": header.parameters(VAE_PREFIX),
                  "text_encoder": sum(map(header.parameters, TEXT_PREFIXES))}
    declared = _declared(header)
    is_plain = family.follows_prediction and not family.has_both_predictions
    usual = {"prediction_type": "epsilon"} if is_plain else {}
    return _card(family, facts, name=name, path=path, kind="file", size_bytes=path.stat().st_size,
                 native_size=settings.get("native_size", family.native_size), parameters=parameters,
                 scheduler={**usual, **declared}, predicts_by="file" if "prediction_type" in declared else "",
                 likes={"note": EDM_NOTE} if EDM_MARK in header.shapes else {},
                 unet_parameters=parameters["unet"], fingerprint=_fingerprint([path]))


def _declared(header: Header) -> dict[str, object]:
    """What a file itself says of its noise: modelspec's word, or the empty tensors that trainers leave."""
    marked = "v" if header.shapes.keys() & {"v_pred", EDM_MARK} else ""
    kind = {"v": "v_prediction", "epsilon": "epsilon"}.get(header.metadata.get("modelspec.prediction_type") or marked)
    changes: dict[str, Any] = {"prediction_type": kind} if kind else {}
    if "ztsnr" in header.shapes:
        changes |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return changes


def read_folder(folder: Path, name: str, kind: str = "folder") -> ModelCard:
    """Make the card of a diffusers folder, or raise ModelError with the reason why it cannot be used."""
    described = read_configs(folder, name, kind)
    family = FAMILIES[described.family]
    here = parts_here(folder, family)
    files = {part: weight_files(folder, part)[0] for part in networks_of(family) if part in here}
    headers = {part: [read_header(path) for path in paths] for part, paths in files.items()}
    everything = [path for paths in files.values() for path in paths]
    return replace(described, size_bytes=sum(path.stat().st_size for path in everything),
                   unet_parameters=sum(header.parameters() for header in headers[family.core]),
                   parameters={part: sum(header.parameters() for header in of) for part, of in headers.items()},
                   fingerprint=_fingerprint([*everything, *sorted(folder.glob("*/*.json"))]))


def read_configs(folder: Path, name: str, kind: str) -> ModelCard:
    """Make a card from model_index.json and the configs alone; the size of what denoises is the family's."""
    index = read_json(folder / "model_index.json")
    core = next((core for core in ("transformer", "unet") if core in index), "unet")
    said = folder / "scheduler" / "scheduler_config.json"
    facts = Facts(pipeline=str(index.get("_class_name")), index=index, unet=read_json(folder / core / "config.json"),
                  scheduler=read_json(said) if said.is_file() else {})
    family = recognise(facts)
    for component in parts_here(folder, family):
        _check_class(folder, component, index.get(component))
    vae = read_json(folder / "vae" / "config.json") if "vae" in parts_of(family) else {}
    is_told = family.follows_prediction and facts.scheduler
    predicted = facts.scheduler.get("prediction_type", "epsilon") if is_told else ""
    return _card(family, facts, name=name, path=folder, kind=kind, likes=_likes(folder), size_bytes=0,
                 scheduler={"prediction_type": predicted} if isinstance(predicted, str) and predicted else {},
                 predicts_by="file" if predicted else "",
                 native_size=_native_size(facts.unet, vae) or family.native_size,
                 unet_parameters=family.unet_parameters,
                 fingerprint=name)


def parts_of(family: Family) -> tuple[str, ...]:
    """Names of the components that are loaded; a safety checker is never one."""
    return family.components


def networks_of(family: Family) -> tuple[str, ...]:
    """Names of the components that have weights."""
    return family.networks


def parts_here(folder: Path, family: Family) -> tuple[str, ...]:
    """Names of the components that a folder has: some families may be stored without their largest text encoder."""
    optional = family.optional
    index = read_json(folder / "model_index.json") if optional else {}
    return tuple(part for part in parts_of(family)
                 if part not in optional or (index.get(part) or [None])[0] is not None)


def weight_files(folder: Path, component: str) -> tuple[tuple[Path, ...], str | None]:
    """The safetensors of a component and their variant ("fp16" when there are no plain ones).

    Raises ModelError when there are none, which says so when there are only pickles.
    """
    stem = "model" if "encoder" in component else "diffusion_pytorch_model"
    for variant in (None, "fp16"):
        middle = f".{variant}" if variant else ""
        names = re.compile(rf"{stem}{re.escape(middle)}(-\d{{5}}-of-\d{{5}})?\.safetensors")
        shards = re.compile(rf"{stem}(-\d{{5}}-of-\d{{5}}){re.escape(middle)}\.safetensors")
        found = [path for path in sorted((folder / component).glob("*.safetensors"))
                 if names.fullmatch(path.name) or shards.fullmatch(path.name)]
        if found:
            return tuple(found), variant
    if any(path.suffix in PICKLES for path in (folder / component).glob("*")):
        raise ModelError(f"{folder.name[:80]} cannot be used: its {component} is stored as a pickle, which can run "
                         "programs when it is opened. Only .safetensors files are read.")
    raise ModelError(f"{folder.name[:80]} cannot be used: it has no weights for its {component}.")


def refuse_pickle(path: Path) -> None:
    """Raise ModelError for formats that can run programs when they are opened."""
    if path.suffix.lower() in PICKLES:
        raise ModelError(f"{path.name[:80]} cannot be used: {path.suffix} files are pickles, which can run programs "
                         "when they are opened. Only .safetensors files are read.")


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON table, or raise ModelError naming the file and the folder it lies in."""
    shown = f"{path.parent.name[:60]}/{path.name}"
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{shown} is larger than {MAX_JSON_BYTES:,} bytes.")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ModelError(f"{shown} is missing or cannot be read.") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{shown} is damaged: it is not JSON.") from None
    if not isinstance(value, dict):
        raise ModelError(f"{shown} is damaged: it is not a table.")
    return value


def _card(family: Family, facts: Facts, *, name: str, likes: Mapping[str, object] | None = None,
          **known: Any) -> ModelCard:
    preferred = {"title": name, "steps": family.steps, "guidance_scale": family.guidance_scale,
                 "sampler": family.sampler, "schedule": family.schedule, **family.prefers(facts), **(likes or {})}
    channels = family.inpainting_channels
    inpainting = channels is not None and facts.in_channels == channels
    tasks = ("inpaint",) if inpainting else preferred.pop("tasks", tuple(family.pipelines))
    return ModelCard(name=name, family=family.name, inpainting=inpainting, tasks=tasks, **preferred, **known)


def _check_class(folder: Path, component: str, named: object) -> None:
    """Only classes of diffusers and transformers are ever imported; a folder may name any Python file."""
    library, cls = named if isinstance(named, list) and len(named) == 2 else (None, None)
    if library not in LIBRARIES or not isinstance(cls, str) or not cls.isidentifier():
        shown = f"{library}.{cls}" if library else "nothing"
        raise ModelError(f"{folder.name[:80]} cannot be used: its {component} is {shown[:60]}. Only parts of "
                         f"{' and '.join(LIBRARIES)} are loaded.")


def _native_size(unet: Mapping[str, object], vae: Mapping[str, object]) -> int | None:
    """Pixels of a side: the U-Net's latent size times the autoencoder's reduction."""
    size = unet.get("sample_size")
    channels = vae.get("block_out_channels") or vae.get("encoder_block_out_channels")
    size = max(size) if isinstance(size, list) and size else size
    if type(size) is not int or not isinstance(channels, list):
        return None
    native = size * 2 ** (min(len(channels), 8) - 1)
    return native if 64 <= native <= 2048 else None


def _likes(folder: Path) -> dict[str, object]:
    """What atelier.json beside the model says about it; entries of a wrong kind or size are left out."""
    if not (folder / "atelier.json").is_file():
        return {}
    said = read_json(folder / "atelier.json")
    likes: dict[str, Any] = {key: said[key][:length] for key, length in LIKED_TEXTS.items()
                             if isinstance(said.get(key), str)}
    likes |= {key: kind(said[key]) for key, (kind, least, most) in LIKED_NUMBERS.items()
              if type(said.get(key)) in (int, kind) and least <= said[key] <= most}
    examples = said.get("examples")
    if isinstance(examples, list):
        likes["examples"] = tuple(example for example in examples[:MAX_EXAMPLES] if isinstance(example, dict))
    return likes


def _fingerprint(paths: list[Path]) -> str:
    facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
