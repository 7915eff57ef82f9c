"""Sizes of the embedded model and settings of its training, in one value that is checked before anything runs."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Config:
    """All numbers of the recipe. Every stage stores the part that it depends on and refuses to resume under another."""

    # data
    concepts: int = 200              # how many of concepts.txt are taught
    image_px: int = 128
    variants: int = 8                # cached latents for each (drawing, background): other sizes, places, gradients
    held_out: float = 0.05           # share of (concept, style) pairs that the UNet never sees

    # autoencoder: 128x128x3 <-> 16x16x4
    vae_channels: tuple[int, ...] = (16, 32, 64, 128)
    vae_layers: int = 1
    vae_groups: int = 8
    latent_channels: int = 4         # stock inpainting takes no other number but 9

    # text encoder and tokenizer
    merges: int = 1500
    positions: int = 77              # stock pipelines pad to it
    text_width: int = 256
    text_layers: int = 4
    text_heads: int = 4

    # UNet
    unet_channels: tuple[int, ...] = (80, 160, 192)
    unet_attention: tuple[bool, ...] = (False, True, True)   # the text is looked at on these levels
    unet_layers: int = 1
    unet_heads: tuple[int, ...] = (2, 4, 6)
    unet_groups: int = 16

    # training
    batch: int = 64
    lr: float = 1e-3
    ema: float = 0.999
    text_pace: float = 0.0           # learning rate of the text encoder beside the UNet, in the UNet's; 0 freezes it
    contrast: float = 0.35           # share of the loss, at pure noise, that pushes away from a thing's other styles
    crossed: float = 0.30            # share of pictures whose noise hides another thing, as in image to image
    empty_captions: float = 0.10     # so that classifier-free guidance has an unconditional model
    seed: int = 0

    @property
    def vae_factor(self) -> int:
        """Pixels a latent cell: one halving between each two levels."""
        return 2 ** (len(self.vae_channels) - 1)

    @property
    def latent_px(self) -> int:
        return self.image_px // self.vae_factor

    def check(self) -> Config:
        """Return self, or raise ValueError that names the field, its value and what it must be."""

        def need(ok: bool, field: str, rule: str) -> None:
            if not ok:
                raise ValueError(f"config: {field} = {getattr(self, field)!r}: {rule}")

        need(self.concepts >= 2, "concepts", "at least 2")
        need(self.image_px > 0 and self.image_px % (self.vae_factor * 2 ** (len(self.unet_channels) - 1)) == 0,
             "image_px", "must divide by the autoencoder's and the UNet's halvings together")
        need(self.latent_channels == 4, "latent_channels", "stock inpainting takes 4 only")
        need(self.positions == 77, "positions", "stock pipelines and other tools expect 77")
        need(all(c > 0 and c % self.vae_groups == 0 for c in self.vae_channels), "vae_channels",
             f"each must divide by vae_groups = {self.vae_groups}")
        need(all(c > 0 and c % self.unet_groups == 0 for c in self.unet_channels), "unet_channels",
             f"each must divide by unet_groups = {self.unet_groups}")
        need(len(self.unet_attention) == len(self.unet_channels) and any(self.unet_attention), "unet_attention",
             "one value for each of unet_channels, at least one of them true")
        need(len(self.unet_heads) == len(self.unet_channels), "unet_heads", "one number for each of unet_channels")
        need(all(h > 0 and c % h == 0 for c, h in zip(self.unet_channels, self.unet_heads, strict=False)), "unet_heads",
             "each must divide its channels")
        need(self.text_heads > 0 and self.text_width % self.text_heads == 0, "text_width",
             f"must divide by text_heads = {self.text_heads}")
        need(0 <= self.held_out < 0.5, "held_out", "between 0 and 0.5")
        need(0 <= self.empty_captions < 1, "empty_captions", "between 0 and 1")
        need(0 <= self.contrast < 1, "contrast", "between 0 and 1")
        need(0 <= self.crossed < 1, "crossed", "between 0 and 1")
        need(self.batch > 0, "batch", "at least 1")
        need(0 < self.lr < 1, "lr", "between 0 and 1")
        need(0 <= self.text_pace <= 1, "text_pace", "between 0 and 1")
        need(0 <= self.ema < 1, "ema", "between 0 and 1")
        for field in ("variants", "vae_layers", "merges", "text_layers", "unet_layers"):
            need(getattr(self, field) >= 1, field, "at least 1")
        return self


def default_cache_dir() -> Path:
    """Packages, drawings, latents and training states stay here, outside the repository."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "atelier" / "demo"
