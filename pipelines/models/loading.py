"""A checkpoint's components in memory, from a diffusers folder, a single file or the hub: no code of the model runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError, StudioError
from ..families import FAMILIES, Family
from ..library.entry import LibraryEntry
from ..library.read import prediction
from ..library.read.card import ModelCard, networks_of, parts_here, parts_of, read_json, weight_files
from ..library.read.counts import check_counts, check_scheduler
from ..library.read.headers import Header, read_header
from ..library.read.hub import hub_folder
from ..library.recognise import vae_layout
from ..machine.device import Placement
from ..machine.memory import is_out_of_memory
from .components import Component, Components
from .interrupt import interruptible
from .memory_format import as_stored, settled
from .offload import by_layers
from .quantize import in_four_bits
from .single_file import components_of_file, config_folder, dtype_of, unknown_tensors

if TYPE_CHECKING:
    import torch
    from diffusers import SchedulerMixin

CORES = ("unet", "transformer")


def load(card: ModelCard, placement: Placement, *, offline: bool = True,
         tried: Callable[[str], None] = lambda kind: None,
         go_on: Callable[[], None] = lambda: None) -> Components:
    """Load what the family's text-to-image pipeline is built of, on `placement`, in eval mode and frozen.

    Returns {component name: object}; text encoders have the U-Net's dtype, the autoencoder its own. Only a hub model
    that is not on this disk is fetched, and only when not offline. tried: told what a model was found to predict, where
    neither its file nor anybody says it. go_on: asked between layers; what it raises ends the loading. Raises
    ModelError naming file and reason.
    """
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # it asks for torchvision, which breaks diffusers on a CPU torch
    family = FAMILIES[card.family]
    try:
        shown = f"{card.title}: {_shown(card)}"
        if card.kind == "file":
            with interruptible(go_on, shown):
                components = _from_file(card, family, placement)
        else:
            folder = card.path or hub_folder(card, half=placement.dtype == "float16", offline=offline, go_on=go_on)
            components = {}
            for part in parts_here(folder, family):
                with interruptible(go_on, f"{shown}: its {part}"):
                    components[part] = _from_folder(folder, part, dtype_of(part, placement, family))
            components |= _left_out(folder, family)
        if placement.weights == "4-bit":
            in_four_bits(components[family.core], dtype_of(family.core, placement, family))
        for part in networks_of(family):
            go_on()
            if components[part] is not None:
                components[part] = settled(components[part], part, shown, placement,
                                           dtype_of(part, placement, family),
                                           small=placement.weights == "8-bit" and part == family.core)
        if placement.offload == "group":
            for part in networks_of(family):
                if components[part] is not None:
                    by_layers(components[part], placement)
        components["scheduler"] = _told(card, components, placement, tried)
    except StudioError:
        raise
    except Exception as error:  # three libraries read the files, each with its own errors
        if is_out_of_memory(error):
            raise
        raise ModelError(f"{card.title}: {_shown(card)} cannot be loaded: {_reason(error)}") from error
    return components


def load_vae(entry: LibraryEntry, placement: Placement, own: Mapping[str, object]) -> torch.nn.Module:
    """Load an autoencoder that stands alone, to take the place of a checkpoint's.

    own: config of the checkpoint's autoencoder. What a file without a config does not say is taken from there; an
    autoencoder that says it scales latents otherwise is one of another family. Returns an AutoencoderKL or an
    AutoencoderTiny. Raises ModelError naming file and reason.
    """
    import torch

    if entry.kind != "vae" or entry.fault:
        raise ModelError(entry.fault or f"{entry.path.name[:80]} cannot be used: it is no autoencoder.")
    try:
        header = read_header(entry.path)
        layout = vae_layout(header)
        network = _vae(entry.path, header, layout, own)
    except StudioError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(f"{entry.path.name[:80]} cannot be used: {_reason(error)}") from error
    return settled(network, "vae", entry.path.name[:80], placement, getattr(torch, placement.vae_dtype))


def bytes_of(components: Components) -> int:
    """Memory that the networks' weights take."""
    return sum(tensor.numel() * tensor.element_size() for part in components.values() if hasattr(part, "parameters")
               for tensor in (*part.parameters(), *part.buffers()))


def _told(card: ModelCard, components: Components, placement: Placement,
          tried: Callable[[str], None]) -> SchedulerMixin:
    """The scheduler with what the card says of the noise; where the file is silent, with what trying it shows."""
    scheduler, found = components["scheduler"], {}
    if prediction.is_open(card):
        from .prediction_probe import predicts

        if kind := predicts(components, placement):
            found = {"prediction_type": kind}
            tried(kind)
    return type(scheduler).from_config(scheduler.config, **{**found, **card.scheduler})


def _vae(path: Path, header: Header, layout: str, own: Mapping[str, object]) -> torch.nn.Module:
    import diffusers
    import torch
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
    from safetensors.torch import load_file

    beside = path.parent / "config.json"
    said = read_json(beside) if beside.is_file() else {}
    scaling = said.get("scaling_factor", own["scaling_factor"])
    if layout != "tiny" and scaling != own["scaling_factor"]:
        raise ModelError(f"{path.name[:80]} cannot be used: it scales latents by {scaling}, this model by "
                         f"{own['scaling_factor']}.")
    if layout == "tiny":
        from .tiny_vae import TinyAutoencoder as cls
    else:
        cls = diffusers.AutoencoderKL
    config = said or ({} if layout == "tiny" else dict(own))
    check_counts(f"{path.parent.name[:60]}/config.json", said, [header])
    with torch.device("meta"):
        network = cls.from_config({**config, "_class_name": cls.__name__})
    tensors = load_file(path)
    if layout == "original":
        tensors = convert_ldm_vae_checkpoint(tensors, network.config)
    wanted = network.state_dict()
    for name in [name for name in tensors if name not in wanted]:
        tensors[_old_attention(name)] = tensors.pop(name)
    for name, tensor in wanted.items():
        if name not in tensors:
            raise ModelError(f"{path.name[:80]} cannot be used: {name} is missing.")
        if tensors[name].dim() == 4 and tensor.dim() == 2:  # attention was a 1x1 convolution once
            tensors[name] = tensors[name].flatten(1)
        if tensors[name].shape != tensor.shape:
            raise ModelError(f"{path.name[:80]} cannot be used: {name} is {_shape(tensors[name])} and should be "
                             f"{_shape(tensor)}.")
    network.load_state_dict({name: tensors[name] for name in wanted}, assign=True)
    return network


def _old_attention(name: str) -> str:
    """The name of today of a layer of an autoencoder's attention."""
    for old, new in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0")):
        name = re.sub(rf"\.{old}\.(weight|bias)$", rf".{new}.\1", name)
    return name


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _from_folder(folder: Path, part: str, dtype: torch.dtype | None) -> Component:
    """Load one component of a diffusers folder from its own class; what is missing from its weights is an error."""
    library, name = read_json(folder / "model_index.json")[part]
    cls = _class_of(library, name)
    # A class that chooses another by the config would else ask at the terminal whether to run the model's own code.
    safely = {"local_files_only": True, **({"trust_remote_code": False} if library == "transformers" else {})}
    shown = f"{folder.name[:60]}/{part}"
    if dtype is None:
        scheduler = folder / part / "scheduler_config.json"
        if scheduler.is_file():
            check_scheduler(f"{shown}/{scheduler.name}", read_json(scheduler))
        return cls.from_pretrained(folder / part, **safely)
    files, variant = weight_files(folder, part)
    headers = [read_header(path) for path in files]  # says plainly what is wrong with a file
    check_counts(f"{shown}/config.json", read_json(folder / part / "config.json"), headers)
    network, info = cls.from_pretrained(folder / part, torch_dtype=as_stored(part, headers, dtype), variant=variant,
                                        use_safetensors=True, output_loading_info=True, **safely)
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))
    if missing:
        raise ModelError(f"{part}/{files[0].name} cannot be used: {len(missing)} of its tensors are missing, the first "
                         f"is {missing[0][:80]}.")
    if part in CORES and (unknown := sorted(info["unexpected_keys"])):
        raise unknown_tensors(f"{part}/{files[0].name}", part, unknown)
    return network


def _from_file(card: ModelCard, family: Family, placement: Placement) -> Components:
    """Load an original single file with the configs that come along."""
    read_header(card.path)
    with config_folder(card, family) as folder:
        return components_of_file(card.path, folder, family, placement) | _left_out(folder, family)


def _left_out(folder: Path, family: Family) -> Components:
    """The pipeline's parts that this folder is stored without, as None, and its settings that are no parts."""
    if not (family.optional or family.index_settings):
        return {}
    index = read_json(folder / "model_index.json")
    here = parts_here(folder, family)
    return {**{part: None for part in parts_of(family) if part not in here},
            **{name: index[name] for name in family.index_settings if name in index}}


def _class_of(library: str, name: str) -> type:
    """The class that a folder names; the card was made only of folders that name diffusers' or transformers' own."""
    import diffusers
    import transformers

    return getattr({"diffusers": diffusers, "transformers": transformers}[library], name)


def _shown(card: ModelCard) -> str:
    return card.path.name[:80] if card.path else card.name


def _reason(error: BaseException) -> str:
    """The first line of a library's message, without the folders it names."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0].split()
    return " ".join(Path(word.strip("'\",.:")).name if "/" in word or "\\" in word else word for word in words)[:200]
