"""Begin from the shipped model instead of from nothing: its weights as the states that the stages go on from.

The optimizer begins anew and the weights are those rounded to half precision, so this is not an exact resume.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer

from . import clip, data, unet, vae
from .config import Config
from .training import save_state


def adopt(config: Config, cache: Path, concepts: list[data.Concept], shipped: Path, log=print) -> None:
    """Write the states of autoencoder, text encoder and UNet into an empty cache.

    Step and minutes of the UNet are those in the vocabulary.json beside the folder. Raises ValueError where the cache
    holds states already, or where the folder was made from other drawings or sizes.
    """
    vocabulary = json.loads((shipped.parent / "vocabulary.json").read_text())
    names = [c.name for c in concepts[:config.concepts]]
    if list(vocabulary["concepts"]) != names:
        raise ValueError(f"{shipped.parent / 'vocabulary.json'}: was not made from the first {len(names)} drawings")
    states = {name: cache / f"{name}.state" for name in ("vae", "latents", "clip", "unet")}
    if there := [path.name for path in states.values() if path.exists()]:
        raise ValueError(f"{cache}: holds {', '.join(there)}; move it away, or name another --cache-dir")

    shutil.copytree(shipped / "tokenizer", cache / "tokenizer", dirs_exist_ok=True)
    autoencoder = AutoencoderKL.from_pretrained(shipped / "vae", torch_dtype=torch.float32)
    both = clip.Clip(config, len(CLIPTokenizer.from_pretrained(shipped / "tokenizer")))
    both.text.load_state_dict(CLIPTextModel.from_pretrained(shipped / "text_encoder").float().state_dict())
    both.load_state_dict({k: v.float() for k, v in load_file(shipped.parent / "tower.safetensors").items()},
                         strict=False)
    denoiser = unet.Denoiser(config, both.text)
    denoiser.unet.load_state_dict(
        UNet2DConditionModel.from_pretrained(shipped / "unet", torch_dtype=torch.float32).state_dict())

    def begin(name: str, key: str, model: torch.nn.Module, step: int = 0, minutes: float = 0.0) -> None:
        weights = model.state_dict()
        save_state(states[name], {"key": key, "model": weights, "averaged": weights, "step": step,
                                  "elapsed_s": 60 * minutes, "optimizer": {"param_groups": []}})

    begin("vae", vae.key(config), autoencoder)
    save_state(states["latents"], {     # the encoder stays frozen; the latents are made when they are first asked for
        "stamp": "", "scaling_factor": autoencoder.config.scaling_factor,
        "encoder": {k: v for k, v in autoencoder.state_dict().items() if k.startswith(("encoder.", "quant_conv."))}})
    begin("clip", clip.key(config), both)
    trained = vocabulary["training"]
    begin("unet", unet.key(config), denoiser, trained["unet_steps"], trained["unet_minutes"])
    log(f"adopt: {shipped}, UNet step {trained['unet_steps']}, {trained['unet_minutes']} minutes")
