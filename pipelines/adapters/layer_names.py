"""The names of layers: paths in a pipeline <-> what LoRA files call them. Made from the model's own modules.

A path is the component's name and the module's: "unet.mid_block.attentions.0.proj_in". One table holds every name that
a file may use for a path, so that looking one up is all there is to reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from torch import nn

from ..errors import ModelError
from ..families import Family

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

ENCODERS = ("text_encoder", "text_encoder_2")
CORES = ("unet", "transformer")
COMPONENTS = (*CORES, *ENCODERS)
# Prefixes of a text encoder's layers in kohya files; with one encoder both of the first occur.
KOHYA_ENCODERS = {"text_encoder": ("lora_te", "lora_te1"), "text_encoder_2": ("lora_te2",)}
# The same for OneTrainer (clip_l.text_model...) and for what ComfyUI saves (text_encoders.clip_l.transformer...).
CLIP_ENCODERS = {"text_encoder": ("clip_l", "clip_h"), "text_encoder_2": ("clip_g",)}
# diffusers -> the original U-Net (CompVis/stable-diffusion, Stability-AI/generative-models), whose blocks are numbered.
NUMBERED_ENDS = {"conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
                 "time_embedding.linear_1": "time_embed.0",
                 "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
                 "add_embedding.linear_2": "label_emb.0.2"}
NUMBERED_RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
                   "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}
# diffusers before peft called the projections of a text encoder as those of the U-Net, and to_out without its number.
OLD_PROJECTIONS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}


def weight_shape(module: nn.Module) -> tuple[int, ...]:
    """Of a layer's weight as it is when it is not packed into fewer bits."""
    return (module.out_features, module.in_features) if isinstance(module, nn.Linear) else tuple(module.weight.shape)


def layers(pipe: DiffusionPipeline) -> dict[str, nn.Module]:
    """Path -> module, of every linear layer and convolution that an adapter can change."""
    return {path: module for path, module in modules(pipe).items() if isinstance(module, (nn.Linear, nn.Conv2d))}


def modules(pipe: DiffusionPipeline) -> dict[str, nn.Module]:
    """Path -> module, of everything that has a weight: norms and tables of embeddings too, which few files change."""
    return {f"{component}.{path}": module for component in COMPONENTS
            for path, module in _modules(getattr(pipe, component, None))}


def table(pipe: DiffusionPipeline, nameless: str = "text_encoder") -> dict[str, str]:
    """Every name that a file may give a layer -> the layer's path.

    nameless: the text encoder that names without one mean.
    """
    known: dict[str, str] = {}
    unet = getattr(pipe, "unet", None)
    numbers = block_numbers(unet) if unet is not None and hasattr(unet.down_blocks[0], "resnets") else {}
    for path in modules(pipe):
        component, inner = path.split(".", 1)
        names = (_unet_names(inner, numbers) if component == "unet" else _transformer_names(inner)
                 if component == "transformer" else _encoder_names(component, inner, component == nameless))
        for name in names:
            known.setdefault(name, path)
    return known


def path_of(table: Mapping[str, str], name: str) -> str | None:
    """The layer of that name. Programs that convert between kinds of names leave some of the dots."""
    return table.get(name) or table.get(_flat(name))


def kohya(pipe: DiffusionPipeline, family: Family) -> dict[str, str]:
    """Path -> the layer's name in a kohya file for this family; the names that all programs read."""
    _check(family)
    numbers = block_numbers(pipe.unet)
    names = {}
    for path in layers(pipe):
        component, inner = path.split(".", 1)
        if component != "unet":
            names[path] = _flat(f"{family.lora.encoder_names[component]}.{with_text_model(inner)}")
        elif family.lora.numbered:
            names[path] = _flat(f"lora_unet.{numbered(inner, numbers)}")
        else:
            names[path] = _flat(f"lora_unet.{inner}")
    return names


def diffusers(pipe: DiffusionPipeline) -> dict[str, str]:
    """Path -> the layer's name in a file of diffusers; text encoders with `text_model`, which old and new ones read."""
    names = {}
    for path in layers(pipe):
        component, inner = path.split(".", 1)
        names[path] = path if component == "unet" else f"{component}.{with_text_model(inner)}"
    return names


def with_text_model(inner: str) -> str:
    """A text encoder's module path as transformers before 5.6 and all other programs have it."""
    return inner if inner.startswith(("text_model.", "text_projection")) else f"text_model.{inner}"


def block_numbers(unet: nn.Module) -> dict[str, str]:
    """Block of a diffusers U-Net -> block of the original one: "down_blocks.1.attentions.0" -> "input_blocks.4.1"."""
    numbers = {"mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
               "mid_block.resnets.1": "middle_block.2"}
    n = 1  # input_blocks.0 is the first convolution
    for i, block in enumerate(unet.down_blocks):
        for j in range(len(block.resnets)):
            numbers[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{n}.0"
            numbers[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{n}.1"
            n += 1
        if block.downsamplers:
            numbers[f"down_blocks.{i}.downsamplers.0"] = f"input_blocks.{n}.0"
            n += 1
    n = 0
    for i, block in enumerate(unet.up_blocks):
        for j in range(len(block.resnets)):
            numbers[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{n}.0"
            numbers[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{n}.1"
            n += 1
        after = 2 if hasattr(block, "attentions") else 1
        numbers[f"up_blocks.{i}.upsamplers.0"] = f"output_blocks.{n - 1}.{after}"
    return numbers


def numbered(inner: str, numbers: dict[str, str]) -> str:
    """A module path of a diffusers U-Net in the original's words."""
    if inner in NUMBERED_ENDS:
        return NUMBERED_ENDS[inner]
    parts = inner.split(".")
    size = 3 if parts[0] == "mid_block" else 4
    block, rest = ".".join(parts[:size]), ".".join(parts[size:])
    if ".resnets." in block:
        rest = NUMBERED_RESNET.get(rest, rest)
    elif ".downsamplers." in block:
        rest = "op"
    return f"{numbers.get(block, block)}.{rest}"


def _modules(component: nn.Module | None) -> Iterator[tuple[str, nn.Module]]:
    """Modules with a weight of their own; where peft sits on one, its path is that of the layer underneath."""
    for path, module in component.named_modules() if component is not None else ():
        if module._parameters.get("weight") is not None and ".lora_" not in path:
            yield path.removesuffix(".base_layer"), module


def _unet_names(inner: str, numbers: dict[str, str]) -> Iterator[str]:
    original = numbered(inner, numbers)
    yield _flat(f"lora_unet.{inner}")
    yield _flat(f"lora_unet.{original}")
    yield f"unet.{inner}"
    yield f"unet.{original}"  # OneTrainer (OMI)
    yield inner  # attention processors saved on their own
    yield f"base_model.model.{inner}"
    yield f"unet.base_model.model.{inner}"
    yield f"diffusion_model.{original}"  # ComfyUI
    yield f"model.diffusion_model.{original}"
    yield f"diffusion_model.{inner}"
    yield _flat(f"lycoris.{inner}")
    layer, _, projection = inner.removesuffix(".0").rpartition(".")
    if projection in OLD_PROJECTIONS.values():
        yield f"unet.{layer}.processor.{projection}"
        yield f"{layer}.processor.{projection}"


def _transformer_names(inner: str) -> Iterator[str]:
    """Only names of diffusers' own layers: those of an original, which joins some, are turned by the library."""
    yield f"transformer.{inner}"
    yield inner
    yield f"base_model.model.{inner}"
    yield _flat(f"lora_transformer.{inner}")
    yield _flat(f"lycoris.{inner}")


def _encoder_names(component: str, inner: str, is_nameless: bool) -> Iterator[str]:
    bare = inner.removeprefix("text_model.")
    layer, _, projection = bare.rpartition(".")
    for spelled in (with_text_model(inner), bare):
        for prefix in KOHYA_ENCODERS[component]:
            yield _flat(f"{prefix}.{spelled}")
        for prefix in CLIP_ENCODERS[component]:
            yield f"{prefix}.{spelled}"
            yield f"text_encoders.{prefix}.transformer.{spelled}"
        yield f"{component}.{spelled}"
        yield f"{component}.base_model.model.{spelled}"
        if is_nameless:  # saved by peft or LyCORIS from the text encoder alone
            yield spelled
            yield f"base_model.model.{spelled}"
            yield _flat(f"lycoris.{spelled}")
    if projection in OLD_PROJECTIONS:
        yield f"{component}.text_model.{layer}.{OLD_PROJECTIONS[projection]}"
        yield f"{component}.{layer}.{OLD_PROJECTIONS[projection]}"


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _check(family: Family) -> None:
    if family.lora is None:
        raise ModelError(f"LoRA files for {family.label} are not supported.")
