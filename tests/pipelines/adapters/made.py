"""Random adapters for tiny models, under the names of each kind of file, and the sums that they stand for, by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from pipelines.adapters.delta import LowRank

RANK, ALPHA = 4, 2.0
ENCODER_LAYERS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
SIZE = 1.0  # of the random numbers: large enough that a wrong strength is seen in a picture


@dataclass(frozen=True)
class Kinds:
    """Which layers get a part."""

    encoders: bool = True
    convolutions: bool = True
    dora: bool = False


def pipe_of(folder: Any, cls: str = "StableDiffusionPipeline") -> Any:
    """A stock pipeline from a tiny folder; a new one each time, so that a test may do with it as it likes."""
    import diffusers

    diffusers.utils.logging.disable_progress_bar()
    pipe = getattr(diffusers, cls).from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def weights(pipe: Any) -> dict[str, torch.Tensor]:
    """Path -> weight of everything that is a matrix or a convolution, found by shape and not by our own table."""
    found = {}
    for component in ("unet", "text_encoder", "text_encoder_2"):
        network = getattr(pipe, component, None)
        for key, tensor in network.state_dict().items() if network is not None else ():
            if key.endswith(".weight") and tensor.ndim in (2, 4) and "embedding." not in key.replace(
                    "time_embedding.", "").replace("add_embedding.", ""):
                found[f"{component}.{key.removesuffix('.weight')}"] = tensor
    return found


def parts_for(pipe: Any, kinds: Kinds | None = None, seed: int = 0) -> dict[str, LowRank]:
    """Random low-rank parts for a pipeline's layers, alpha unlike rank."""
    kinds = kinds or Kinds()
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * SIZE

    parts = {}
    for path, weight in weights(pipe).items():
        is_unet = path.startswith("unet.")
        in_attention = ".attentions." in path
        if is_unet and not in_attention and not (kinds.convolutions and _is_locon(path)):
            continue
        if not is_unet and not (kinds.encoders and path.endswith(ENCODER_LAYERS)):
            continue
        part = LowRank(draw(RANK, *weight.shape[1:]) / weight[0].numel() ** 0.5,
                       draw(weight.shape[0], RANK, *[1] * (weight.ndim - 2)), ALPHA)
        if kinds.dora:
            lengths = weight.flatten(1).norm(dim=1) * (1 + draw(weight.shape[0]).abs())
            part = replace(part, dora_scale=lengths.reshape(-1, *[1] * (weight.ndim - 1)))
        parts[path] = part
    return parts


def _is_locon(path: str) -> bool:
    return ".resnets." in path or path.endswith((".downsamplers.0.conv", ".upsamplers.0.conv"))


def by_hand(part: LowRank, weight: torch.Tensor) -> torch.Tensor:
    """The change of a weight, from the formulas of the papers and in float64."""
    up, down = part.up.double().flatten(1), part.down.double()
    delta = torch.zeros(weight.shape, dtype=torch.float64)
    for r in range(down.shape[0]):
        delta += torch.outer(up[:, r], down[r].flatten()).reshape(weight.shape)
    delta *= part.alpha / down.shape[0]
    if part.dora_scale is None:
        return delta
    whole = (weight.double() + delta).flatten(1)
    directions = whole / (whole * whole).sum(1, keepdim=True).sqrt()
    return (directions * part.dora_scale.double().flatten(1)).reshape(weight.shape) - weight.double()


def add_by_hand(pipe: Any, parts: dict[str, LowRank], unet: float = 1.0, te: float = 1.0) -> None:
    """Add the changes to the weights for good."""
    known = weights(pipe)
    for path, part in parts.items():
        strength = unet if path.startswith("unet.") else te
        known[path].data.copy_((known[path].double() + strength * by_hand(part, known[path])).float())


def picture(pipe: Any, prompt: str = "a red cat") -> torch.Tensor:
    """Latents (1, 4, 8, 8) after three steps; they show what the weights are without the decoder's rounding."""
    sizes = {"height": 64, "width": 64, "num_inference_steps": 3, "guidance_scale": 3.0, "output_type": "latent"}
    return pipe(prompt, generator=torch.Generator().manual_seed(5), **sizes).images.clone()


def state(pipe: Any) -> list[tuple[Any, ...]]:
    """Everything that must be the same before and after: tensors by place and bits, classes, hooks, attributes."""
    facts: list[tuple[Any, ...]] = []
    for component in ("unet", "text_encoder", "text_encoder_2", "vae"):
        network = getattr(pipe, component, None)
        if network is None:
            continue
        facts += [(component, name, id(tensor), tensor.data_ptr(), tensor.stride(), tensor.requires_grad,
                   tensor.detach().clone().view(torch.int32).sum(dtype=torch.int64).item())
                  for name, tensor in (*network.named_parameters(), *network.named_buffers())
                  if tensor.dtype == torch.float32]
        facts += [(component, name, type(module), id(module), len(module._forward_hooks), tuple(vars(module)))
                  for name, module in network.named_modules()]
    return facts


def trained_parts(pipe: Any) -> dict[str, LowRank]:
    """What peft trained inside a pipeline's models: path -> part; peft's own scaling is folded into alpha."""
    made = {}
    for component in ("unet", "text_encoder"):
        for path, module in getattr(pipe, component).named_modules():
            if not hasattr(module, "lora_A"):
                continue
            down, up = (getattr(module, side)["default"].weight.detach().clone() for side in ("lora_A", "lora_B"))
            dora_scale = None
            if "default" in module.lora_magnitude_vector:
                magnitude = module.lora_magnitude_vector["default"].weight
                dora_scale = magnitude.detach().clone().reshape(-1, *[1] * (down.ndim - 1))
            made[f"{component}.{path}"] = LowRank(down, up, module.scaling["default"] * len(down), None, dora_scale)
    return made
