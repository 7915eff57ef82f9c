"""The components of an original single file, with the configs that come along and what the file changes of them."""

from __future__ import annotations

import inspect
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from ..families import Family
from ..families.clip import CONFIGS, write_vocabulary
from ..families.family import UNET_PREFIX
from ..library.read import blocks
from ..library.read.card import VAE_PREFIX, ModelCard, networks_of, parts_here, read_json
from ..library.read.headers import Header, read_header
from ..machine.device import Placement
from . import scaled
from .components import Components
from .memory_format import as_stored

if TYPE_CHECKING:
    import torch
    from diffusers import UNet2DConditionModel

# Networks of an original single file: component -> its class, and where the file keeps its tensors.
PARTS_OF_A_FILE = {"unet": ("UNet2DConditionModel", UNET_PREFIX), "vae": ("AutoencoderKL", VAE_PREFIX)}


def components_of_file(path: Path, config_folder: Path, family: Family, placement: Placement) -> Components:
    """Load the components of an original single file; config_folder is a diffusers folder without weights."""
    import diffusers
    import torch

    words = getattr(torch, placement.dtype)
    cls = getattr(diffusers, next(iter(family.pipelines.values())))
    known = {"config": str(config_folder), "local_files_only": True}
    header, networks = read_header(path), {}
    tensors = None
    if scaled.scaled_layers(header):
        tensors = scaled.whole_tensors(header, lambda name: dtype_of(_part_of(name), placement, family) or words)
    for part, (name, prefix) in PARTS_OF_A_FILE.items():
        dtype = dtype_of(part, placement, family)
        dtype = as_stored(part, [header], dtype, prefix) if tensors is None else dtype
        source = str(path) if tensors is None else {key: tensor for key, tensor in tensors.items()
                                                    if key.startswith(prefix)}
        networks[part] = getattr(diffusers, name).from_single_file(source, subfolder=part, torch_dtype=dtype, **known)
    _refuse_unknown(header, networks["unet"])
    if tensors is not None:
        networks |= scaled.text_encoders(tensors, config_folder, family, words)
    # An explicit None keeps the safety checker from being looked for.
    without = {"safety_checker": None} if "safety_checker" in inspect.signature(cls).parameters else {}
    pipe = cls.from_single_file(str(path), torch_dtype=dtype_of("text_encoder", placement, family), **networks,
                                **without, **known)
    return {part: pipe.components[part] for part in parts_here(config_folder, family)}


def _part_of(name: str) -> str:
    """The component that a tensor of an original single file belongs to, "" for a text encoder."""
    return next((part for part, (_, prefix) in PARTS_OF_A_FILE.items() if name.startswith(prefix)), "")


def _refuse_unknown(header: Header, unet: UNet2DConditionModel) -> None:
    """Raise ModelError for tensors under the U-Net's prefix that none of its layers reads."""
    from ..adapters.layer_names import block_numbers, numbered

    numbers = block_numbers(unet)
    known = {f"{UNET_PREFIX}{numbered(layer, numbers)}.{kind}" for layer, _, kind in
             (name.rpartition(".") for name in unet.state_dict())}
    unknown = [name for name in header.shapes
               if name.startswith(UNET_PREFIX) and name not in known and not scaled.is_mark(name)]
    if unknown:
        raise unknown_tensors(header.path.name[:80], "unet", unknown)


@contextmanager
def config_folder(card: ModelCard, family: Family) -> Iterator[Path]:
    """A temporary diffusers folder without weights, with what this file changes of the family's configs."""
    with tempfile.TemporaryDirectory(prefix="atelier-") as place:
        folder = Path(place) / family.config
        shutil.copytree(CONFIGS / family.config, folder)
        for tokenizer, _ in family.text_encoders:
            write_vocabulary(folder / tokenizer)
        config = folder / "unet" / "config.json"
        relative = blocks.changes(card.path.name[:80], read_header(card.path).shapes, read_json(config), family.label)
        _change(config, {"in_channels": 9 if card.inpainting else 4, "sample_size": card.native_size // 8, **relative})
        yield folder


def _change(path: Path, changes: Mapping[str, object]) -> None:
    path.write_text(json.dumps({**read_json(path), **changes}), encoding="utf-8")


def dtype_of(part: str, placement: Placement, family: Family) -> torch.dtype | None:
    """torch dtype of a component, None for those that have no weights."""
    import torch

    if part not in networks_of(family):
        return None
    return getattr(torch, placement.vae_dtype if part == "vae" and family.vae_has_own_dtype else placement.dtype)


def unknown_tensors(shown: str, part: str, names: list[str]) -> ModelError:
    """What a network's file holds and no layer reads may be scales, without which the weights mean something else."""
    return ModelError(f"{shown} cannot be used: {len(names)} tensors of its {part} belong to no layer, the first is "
                      f"{names[0][:120]}.")
