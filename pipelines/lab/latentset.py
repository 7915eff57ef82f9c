"""Captioned pictures as Stable Diffusion is trained on them: latents of a frozen VAE, states of a frozen text encoder.

Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models" (arXiv:2112.10752), eq. 3:
    L = E ||eps - eps_theta(z_t, t, tau(y))||^2,    z = E(x), tau the text encoder.
The network alone learns. Everything that does not change is computed once, before the first step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from ..errors import ModelError
from ..generation.decode import to_image
from ..models.offload import device_of
from .data import TinySet

if TYPE_CHECKING:
    from diffusers import AutoencoderKL
    from transformers import PreTrainedTokenizerBase

EMBEDDED = Path(__file__).parents[1] / "demo" / "model"
PARTS = {"vae": "AutoencoderKL", "text_encoder": "CLIPTextModel", "tokenizer": "CLIPTokenizer"}
BATCH = 32


@dataclass(frozen=True)
class Frozen:
    """What stays as it is: a checkpoint's own objects, or those of a folder. name: for the run to remember."""

    name: str
    vae: AutoencoderKL
    text_encoder: Any
    tokenizer: PreTrainedTokenizerBase

    def states(self, captions: Sequence[str]) -> Tensor:
        """Last hidden states (n, places, width) of captions, cut to one pass of the encoder."""
        told = self.tokenizer(list(captions), padding="max_length", truncation=True, return_tensors="pt")
        with torch.no_grad():
            return self.text_encoder(told.input_ids.to(device_of(self.text_encoder)))[0].float().cpu()

    def latents(self, pixels: Tensor) -> Tensor:
        """(n, 3, h, w) in -1..1 -> (n, c, h / 8, w / 8) of about unit variance; the posterior's mean."""
        with torch.no_grad():
            mean = self.vae.encode(pixels.to(device_of(self.vae), self.vae.dtype)).latent_dist.mean
            return (mean * self.vae.config.scaling_factor).float().cpu()

    def picture(self, latents: Tensor) -> Image.Image:
        """The picture of latents (c, h, w)."""
        with torch.no_grad():
            scaled = (latents[None] / self.vae.config.scaling_factor).to(device_of(self.vae), self.vae.dtype)
            return to_image(self.vae.decode(scaled, return_dict=False)[0].float())


def frozen(folder: Path) -> Frozen:
    """The frozen parts of a diffusers folder. Raises ModelError when one is missing."""
    import diffusers
    import transformers

    loaded = {}
    for part, name in PARTS.items():
        cls = getattr(diffusers, name, None) or getattr(transformers, name)
        safe = {} if part == "tokenizer" else {"use_safetensors": True}
        try:
            loaded[part] = cls.from_pretrained(folder / part, local_files_only=True, **safe)
        except Exception as error:  # each library raises kinds of its own
            raise ModelError(f"Model: this folder has no {part.replace('_', ' ')} that can be read.") from error
    for part in ("vae", "text_encoder"):
        loaded[part].eval().requires_grad_(False)
    return Frozen(folder.resolve().name if folder != EMBEDDED else "", **loaded)


@dataclass(frozen=True)
class LatentSet(TinySet):
    """pixels: latents (n, c, h, w). states: (captions, places, width) float16, the empty caption first; which: (n,)."""

    captions: tuple[str, ...] = ()
    states: Tensor = field(default_factory=lambda: torch.zeros(1, 1, 1))
    which: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    @property
    def context_width(self) -> int:
        return self.states.shape[-1]

    @property
    def nothing(self) -> Tensor:
        return self.states[0].float()

    def contexts(self, indices: Tensor) -> Tensor:
        """States of the pictures' captions (b, places, width)."""
        return self.states[self.which[indices]].float()

    def examples(self, count: int) -> Tensor:
        """Contexts to draw samples of: captions evenly spread over the set."""
        return self.contexts(torch.linspace(0, len(self) - 1, count).long())


def encoded(tiny: TinySet, parts: Frozen) -> LatentSet:
    """The set in latent space. Pictures without a caption have the name of their class."""
    captions = tiny.captions or tuple(tiny.classes[label] if tiny.classes else "" for label in tiny.labels.tolist())
    known = list(dict.fromkeys(["", *captions]))
    colour = tiny.pixels.expand(-1, 3, -1, -1)
    latents = torch.cat([parts.latents(batch) for batch in colour.split(BATCH)])
    states = torch.cat([parts.states(known[i:i + BATCH]).half() for i in range(0, len(known), BATCH)])
    which = torch.tensor([known.index(caption) for caption in captions])
    plain = {**replace(tiny, captions=captions).__dict__, "pixels": latents, "classes": ()}
    return LatentSet(**plain, states=states, which=which)
