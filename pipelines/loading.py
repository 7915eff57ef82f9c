"""A checkpoint's components in memory, from a diffusers folder, a single file or the hub: no code of the model runs."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .checkpoints import NETWORKS, ModelCard, parts_of, read_json, weight_files
from .device import Placement
from .errors import ModelError, StudioError
from .families import FAMILIES, Family
from .families.clip import CONFIGS, write_vocabulary
from .headers import read_header
from .hub import hub_folder


def load(card: ModelCard, placement: Placement, *, offline: bool = True) -> dict[str, Any]:
    """Load what the family's text-to-image pipeline is built of, on `placement`, in eval mode and frozen.

    Returns {component name: object}; text encoders have the U-Net's dtype, the autoencoder its own. Only a hub model
    that is not on this disk is fetched, and only when not offline. Raises ModelError naming file and reason.
    """
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # it asks for torchvision, which breaks diffusers on a CPU torch
    family = FAMILIES[card.family]
    try:
        if card.kind == "file":
            components = _from_file(card, family, placement)
        else:
            folder = card.path or hub_folder(card, half=placement.dtype == "float16", offline=offline)
            components = {part: _from_folder(folder, part, _dtype_of(part, placement)) for part in parts_of(family)}
        for part in NETWORKS:
            if part in components:
                components[part] = _settled(components[part], part, card, placement)
    except StudioError:
        raise
    except Exception as error:  # three libraries read the files, each with its own errors
        if _is_out_of_memory(error):
            raise
        raise ModelError(f"{card.title}: {_shown(card)} cannot be loaded: {_reason(error)}") from error
    return components


def bytes_of(components: dict[str, Any]) -> int:
    """Memory that the networks' weights take."""
    return sum(tensor.numel() * tensor.element_size() for part in NETWORKS if part in components
               for tensor in (*components[part].parameters(), *components[part].buffers()))


def _from_folder(folder: Path, part: str, dtype: Any) -> Any:
    """Load one component of a diffusers folder from its own class; what is missing from its weights is an error."""
    cls = _class_of(read_json(folder / "model_index.json")[part])
    if dtype is None:
        return cls.from_pretrained(folder / part, local_files_only=True)
    files, variant = weight_files(folder, part)
    for path in files:
        read_header(path)  # says plainly what is wrong with a file
    network, info = cls.from_pretrained(folder / part, torch_dtype=dtype, variant=variant, use_safetensors=True,
                                        local_files_only=True, output_loading_info=True)
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))
    if missing:
        raise ModelError(f"{part}/{files[0].name} cannot be used: {len(missing)} of its tensors are missing, the first "
                         f"is {missing[0][:80]}.")
    return network


def _from_file(card: ModelCard, family: Family, placement: Placement) -> dict[str, Any]:
    """Load an original single file with the configs that come along."""
    read_header(card.path)
    with _config_folder(card, family) as folder:
        return components_of_file(card.path, folder, family, placement)


def components_of_file(path: Path, config_folder: Path, family: Family, placement: Placement) -> dict[str, Any]:
    """Load the components of an original single file; config_folder is a diffusers folder without weights."""
    import diffusers

    cls = getattr(diffusers, family.pipelines["txt2img"])
    known = {"config": str(config_folder), "local_files_only": True}
    vae = diffusers.AutoencoderKL.from_single_file(str(path), subfolder="vae", torch_dtype=_dtype_of("vae", placement),
                                                   **known)
    # An explicit None keeps the safety checker from being looked for.
    without = {} if family.pooled else {"safety_checker": None}
    pipe = cls.from_single_file(str(path), vae=vae, torch_dtype=_dtype_of("unet", placement), **without, **known)
    return {part: pipe.components[part] for part in parts_of(family)}


@contextmanager
def _config_folder(card: ModelCard, family: Family) -> Iterator[Path]:
    """A temporary diffusers folder without weights, with what this file changes of the family's configs."""
    with tempfile.TemporaryDirectory(prefix="atelier-") as place:
        folder = Path(place) / family.config
        shutil.copytree(CONFIGS / family.config, folder)
        for tokenizer, _ in family.text_encoders:
            write_vocabulary(folder / tokenizer)
        _change(folder / "unet" / "config.json", {"in_channels": 9 if card.inpainting else 4,
                                                  "sample_size": card.native_size // 8})
        _change(folder / "scheduler" / "scheduler_config.json", dict(card.scheduler))
        yield folder


def _change(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(json.dumps({**read_json(path), **changes}), encoding="utf-8")


def _class_of(named: list[str]) -> Any:
    """The class that a folder names; the card was made only of folders that name diffusers' or transformers' own."""
    import diffusers
    import transformers

    library, name = named
    return getattr({"diffusers": diffusers, "transformers": transformers}[library], name)


def _dtype_of(part: str, placement: Placement) -> Any:
    """torch dtype of a component, None for those that have no weights."""
    import torch

    if part not in NETWORKS:
        return None
    return getattr(torch, placement.vae_dtype if part == "vae" else placement.dtype)


def _settled(network: Any, part: str, card: ModelCard, placement: Placement) -> Any:
    """Freeze a network and put it in its place, in the memory layout in which convolutions run fastest there."""
    import torch

    if any(tensor.is_meta for tensor in network.parameters()):
        raise ModelError(f"{card.title}: {_shown(card)} cannot be used: it holds only a part of its {part}.")
    network.eval().requires_grad_(False)
    # On a CPU it is worth a tenth of the time of a decode and, in bfloat16, of a U-Net step; on a card nothing
    # without compilation.
    channels_last = placement.device == "cpu" and part in ("unet", "vae")
    return network.to(placement.device, memory_format=torch.channels_last if channels_last else torch.preserve_format)


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _shown(card: ModelCard) -> str:
    return card.path.name[:80] if card.path else card.name


def _reason(error: BaseException) -> str:
    """The first line of a library's message, without the folders it names."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0].split()
    return " ".join(Path(word.strip("'\",.:")).name if "/" in word or "\\" in word else word for word in words)[:200]
