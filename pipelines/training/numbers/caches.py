"""Latents and text embeddings, computed once and keyed by content, so that nothing is ever stale.

The latents' mean and spread are kept, not a sample of them: every step still draws its own (Kingma & Welling 2013,
arXiv:1312.6114), and a flipped or differently cropped picture is an entry of its own. So caching changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...errors import StudioError, quoted
from ...images.geometry import Box, Size, cut
from ...machine import memory
from ..dataset.picture import Picture, open_picture
from .base_model import Base
from .room import Room
from .tensors import write_tensors
from .text import encode

Entry = dict[str, torch.Tensor]


class TensorCache:
    """Entries of CPU tensors under keys; in memory, or as one file each when a folder is given."""

    def __init__(self, folder: Path | None = None):
        self._folder, self._kept = folder, {}

    def get(self, key: str, make: Callable[[], Entry], *, on_disk: bool = True) -> Entry:
        """The entry under `key`, made and kept when it is not there. What the disk does not take stays in memory, and
        what is not to go there."""
        if key in self._kept:
            return self._kept[key]
        entry = self._read(key)
        if entry is None:
            entry = {name: tensor.detach().cpu().contiguous() for name, tensor in make().items()}
            if not (on_disk and self._write(key, entry)):
                self._kept[key] = entry
        return entry

    def _read(self, key: str) -> Entry | None:
        if self._folder is None:
            return None
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(self._folder / f"{key}.safetensors")
        except (OSError, SafetensorError):
            return None

    def _write(self, key: str, entry: Entry) -> bool:
        if self._folder is None:
            return False
        half = self._folder / f".{key}.{os.getpid()}.new"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_tensors(half, entry)
            half.replace(self._folder / f"{key}.safetensors")
        except OSError:
            with suppress(OSError):
                half.unlink(missing_ok=True)
            return False
        return True


def key_of(*facts: Any) -> str:
    """SHA-256 of JSON facts."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


class Latents:
    """Pictures as the model sees them: {"mean", "std": (c, h, w), scaled; "mask": (1, h, w)}."""

    def __init__(self, base: Base, cache: TensorCache, room: Room | None = None):
        self._base, self._cache, self._room = base, cache, room or Room(base)
        self._open: tuple[Picture | None, Any] = (None, None)  # the picture decoded last: its crops come in a row

    def get(self, picture: Picture, box: Box, size: Size, flip: bool) -> Entry:
        """The latents of one part of a picture at a size."""
        mask = hashlib.sha256(picture.mask.read_bytes()).hexdigest() if picture.mask else ""
        key = key_of("latents", picture.digest, mask, box.edges, size, flip, self._base.card.fingerprint,
                     str(self._base.vae.dtype))

        def found() -> Entry:
            # Tiles change the numbers a little, so what they give is not kept for other runs.
            return self._cache.get(key, lambda: self._encode(picture, box, size, flip), on_disk=not self._room.in_tiles)

        return self._room.encoded(found, picture.name[:80])

    def _encode(self, picture: Picture, box: Box, size: Size, flip: bool) -> Entry:
        image, mask = self._decoded(picture)
        shown = [cut(one, box, size) for one in (image, mask) if one is not None]
        if flip:
            shown = [one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in shown]
        vae, factor = self._base.vae, self._base.vae.config.scaling_factor
        values = np.asarray(shown[0], np.float32)[None] / 255
        pixels = (torch.from_numpy(values.transpose(0, 3, 1, 2)) * 2 - 1).to(vae.device, vae.dtype)
        with torch.no_grad(), memory.tiled(vae) if self._room.in_tiles else nullcontext():
            posterior = vae.encode(pixels).latent_dist
        entry = {"mean": (posterior.mean * factor)[0].float(), "std": (posterior.std * factor)[0].float()}
        if not all(bool(tensor.isfinite().all()) for tensor in entry.values()):
            raise StudioError(f"{picture.name[:80]}: the model's autoencoder gives no valid numbers for this picture.")
        if len(shown) > 1:
            small = shown[1].resize((entry["mean"].shape[2], entry["mean"].shape[1]), Image.Resampling.BOX)
            entry["mask"] = torch.from_numpy(np.asarray(small, np.float32) / 255)[None]
        return entry

    def _decoded(self, picture: Picture) -> tuple[Image.Image, Image.Image | None]:
        if self._open[0] is not picture:
            self._open = picture, open_picture(picture)
        return self._open[1]


class Embeddings:
    """Captions as the model reads them: {"embeds": (tokens, width), "pooled": (width,)}."""

    def __init__(self, base: Base, cache: TensorCache, clip_skip: int, room: Room | None = None):
        self._base, self._cache, self._clip_skip, self._room = base, cache, clip_skip, room or Room(base)

    def get(self, text: str) -> Entry:
        """The embedding of one caption."""
        encoder = next(iter(self._base.encoders.values()))
        key = key_of("text", text, self._base.card.fingerprint, self._clip_skip, str(encoder.dtype))
        return self._room.encoded(lambda: self._cache.get(key, lambda: self._encode(text)), f"Caption {quoted(text)}")

    def batch(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Embeddings of several captions: (b, tokens, width) and (b, width) or None."""
        entries = [self.get(text) for text in texts]
        pooled = torch.stack([one["pooled"] for one in entries]) if "pooled" in entries[0] else None
        return torch.stack([one["embeds"] for one in entries]), pooled

    def _encode(self, text: str) -> Entry:
        with torch.no_grad():
            embeds, pooled = encode(self._base.components, self._base.family, [text], self._clip_skip)
        return {"embeds": embeds[0]} | ({} if pooled is None else {"pooled": pooled[0]})
