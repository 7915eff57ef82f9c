"""A checkpoint's components in memory, from a diffusers folder, a single file or the hub: no code of the model runs."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ModelError, StudioError
from ..families import FAMILIES, Family
from ..families.clip import CONFIGS, write_vocabulary
from ..families.family import UNET_PREFIX
from ..library.entry import LibraryEntry
from ..library.read import prediction
from ..library.read.card import VAE_PREFIX, ModelCard, networks_of, parts_here, parts_of, read_json, weight_files
from ..library.read.headers import Header, read_header
from ..library.read.hub import hub_folder
from ..library.recognise import vae_layout
from ..machine.device import Placement, is_out_of_memory
from .memory_format import as_stored, settled
from .offload import by_layers
from .quantize import in_four_bits

# Networks of an original single file: component -> its class, and where the file keeps its tensors.
PARTS_OF_A_FILE = {"unet": ("UNet2DConditionModel", UNET_PREFIX), "vae": ("AutoencoderKL", VAE_PREFIX)}


def load(card: ModelCard, placement: Placement, *, offline: bool = True,
         tried: Callable[[str], None] = lambda kind: None) -> dict[str, Any]:
    """Load what the family's text-to-image pipeline is built of, on `placement`, in eval mode and frozen.

    Returns {component name: object}; text encoders have the U-Net's dtype, the autoencoder its own. Only a hub model
    that is not on this disk is fetched, and only when not offline. tried: told what a model was found to predict, where
    neither its file nor anybody says it. Raises ModelError naming file and reason.
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
            components = {part: _from_folder(folder, part, _dtype_of(part, placement, family))
                          for part in parts_here(folder, family)}
            components |= _left_out(folder, family)
        if placement.weights == "4-bit":
            in_four_bits(components[family.core], _dtype_of(family.core, placement, family))
        for part in networks_of(family):
            if components[part] is not None:
                components[part] = settled(components[part], part, f"{card.title}: {_shown(card)}", placement,
                                           _dtype_of(part, placement, family),
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


def load_vae(entry: LibraryEntry, placement: Placement, own: Mapping[str, Any]) -> Any:
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


def bytes_of(components: dict[str, Any]) -> int:
    """Memory that the networks' weights take."""
    return sum(tensor.numel() * tensor.element_size() for part in components.values() if hasattr(part, "parameters")
               for tensor in (*part.parameters(), *part.buffers()))


def _told(card: ModelCard, components: dict[str, Any], placement: Placement, tried: Callable[[str], None]) -> Any:
    """The scheduler with what the card says of the noise; where the file is silent, with what trying it shows."""
    scheduler, found = components["scheduler"], {}
    if prediction.is_open(card):
        from .prediction_probe import predicts

        if kind := predicts(components, placement):
            found = {"prediction_type": kind}
            tried(kind)
    return type(scheduler).from_config(scheduler.config, **{**found, **card.scheduler})


def _vae(path: Path, header: Header, layout: str, own: Mapping[str, Any]) -> Any:
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


def _shape(tensor: Any) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _from_folder(folder: Path, part: str, dtype: Any) -> Any:
    """Load one component of a diffusers folder from its own class; what is missing from its weights is an error."""
    library, name = read_json(folder / "model_index.json")[part]
    cls = _class_of(library, name)
    # A class that chooses another by the config would else ask at the terminal whether to run the model's own code.
    safely = {"local_files_only": True, **({"trust_remote_code": False} if library == "transformers" else {})}
    if dtype is None:
        return cls.from_pretrained(folder / part, **safely)
    files, variant = weight_files(folder, part)
    headers = [read_header(path) for path in files]  # says plainly what is wrong with a file
    network, info = cls.from_pretrained(folder / part, torch_dtype=as_stored(part, headers, dtype), variant=variant,
                                        use_safetensors=True, output_loading_info=True, **safely)
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))
    if missing:
        raise ModelError(f"{part}/{files[0].name} cannot be used: {len(missing)} of its tensors are missing, the first "
                         f"is {missing[0][:80]}.")
    return network


def _from_file(card: ModelCard, family: Family, placement: Placement) -> dict[str, Any]:
    """Load an original single file with the configs that come along."""
    read_header(card.path)
    with _config_folder(card, family) as folder:
        return components_of_file(card.path, folder, family, placement) | _left_out(folder, family)


def components_of_file(path: Path, config_folder: Path, family: Family, placement: Placement) -> dict[str, Any]:
    """Load the components of an original single file; config_folder is a diffusers folder without weights."""
    import diffusers

    cls = getattr(diffusers, next(iter(family.pipelines.values())))
    known = {"config": str(config_folder), "local_files_only": True}
    header, networks = read_header(path), {}
    for part, (name, prefix) in PARTS_OF_A_FILE.items():
        dtype = as_stored(part, [header], _dtype_of(part, placement, family), prefix)
        networks[part] = getattr(diffusers, name).from_single_file(str(path), subfolder=part, torch_dtype=dtype,
                                                                   **known)
    # An explicit None keeps the safety checker from being looked for.
    without = {"safety_checker": None} if "safety_checker" in inspect.signature(cls).parameters else {}
    pipe = cls.from_single_file(str(path), torch_dtype=_dtype_of("text_encoder", placement, family), **networks,
                                **without, **known)
    return {part: pipe.components[part] for part in parts_here(config_folder, family)}


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
        yield folder


def _change(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(json.dumps({**read_json(path), **changes}), encoding="utf-8")


def _left_out(folder: Path, family: Family) -> dict[str, Any]:
    """The pipeline's parts that this folder is stored without, as None, and its settings that are no parts."""
    if family.stock is None:
        return {}
    index = read_json(folder / "model_index.json")
    here = parts_here(folder, family)
    return {**{part: None for part in parts_of(family) if part not in here},
            **{name: index[name] for name in family.stock.settings if name in index}}


def _class_of(library: str, name: str) -> Any:
    """The class that a folder names; the card was made only of folders that name diffusers' or transformers' own."""
    import diffusers
    import transformers

    return getattr({"diffusers": diffusers, "transformers": transformers}[library], name)


def _dtype_of(part: str, placement: Placement, family: Family) -> Any:
    """torch dtype of a component, None for those that have no weights."""
    import torch

    if part not in networks_of(family):
        return None
    # The library's pipelines hand latents to the autoencoder as they are.
    return getattr(torch, placement.vae_dtype if part == "vae" and not family.stock else placement.dtype)


def _shown(card: ModelCard) -> str:
    return card.path.name[:80] if card.path else card.name


def _reason(error: BaseException) -> str:
    """The first line of a library's message, without the folders it names."""
    words = (str(error).strip() or type(error).__name__).splitlines()[0].split()
    return " ".join(Path(word.strip("'\",.:")).name if "/" in word or "\\" in word else word for word in words)[:200]
