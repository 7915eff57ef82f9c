"""Measure how much memory drawing takes beside the weights: python -m benchmarks.activations

Networks of published shape run on the meta device, which allocates nothing; every tensor that would have lived is
counted. The numbers stand in pipelines/models/estimate.py, in bytes of float16 or bfloat16 a pixel.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipelines.families.clip import CONFIGS
from pipelines.machine import deferred_import

SIDES = (512, 1024)


class Live(TorchDispatchMode):
    """Counts the bytes of the tensors that are alive. peak: the most at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {tensor.untyped_storage()._cdata for tensor in tree_leaves((args, kwargs)) if _is_tensor(tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in filter(_is_tensor, tree_leaves(out)):
            storage = tensor.untyped_storage()
            if storage._cdata in given or storage._cdata in self._known:
                continue
            size = storage.nbytes()
            self.now += size
            self._known[storage._cdata] = weakref.finalize(storage, self._forget, storage._cdata, size)
        self.peak = max(self.peak, self.now)
        return out

    def _forget(self, key: int, size: int) -> None:
        self.now -= size
        self._known.pop(key, None)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


@contextmanager
def fused_attention():
    """Attention as every device here computes it: without the matrix of all pairs."""
    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return torch.empty((*query.shape[:-1], value.shape[-1]), dtype=query.dtype, device=query.device)

    with patch("torch.nn.functional.scaled_dot_product_attention", attend):
        yield


def peak(run: Callable[[], Any]) -> int:
    """Bytes that lived at once while `run` ran, its inputs and weights not counted."""
    with torch.no_grad(), fused_attention(), Live() as live:
        run()
    return live.peak


def hollow(cls_name: str, **config: Any) -> Any:
    """A network of a config, without memory."""
    import diffusers

    with torch.device("meta"):
        return getattr(diffusers, cls_name).from_config(config).to(torch.float16).eval()


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float16, device="meta")


def unet_step(family: str, side: int, rows: int = 2) -> int:
    """One call of the U-Net of an original single file's family."""
    config = json.loads((CONFIGS / family / "unet" / "config.json").read_text())
    unet = hollow("UNet2DConditionModel", **config)
    told = {"encoder_hidden_states": empty(rows, 77, config["cross_attention_dim"])}
    if config.get("addition_embed_type"):
        told["added_cond_kwargs"] = {"text_embeds": empty(rows, 1280), "time_ids": empty(rows, 6)}
    latents = empty(rows, config["in_channels"], side // 8, side // 8)
    return peak(lambda: unet(latents, torch.empty((), device="meta"), **told))


def decode(family: str, side: int) -> int:
    """One decode of one picture by the autoencoder of an original single file's family."""
    vae = hollow("AutoencoderKL", **json.loads((CONFIGS / family / "vae" / "config.json").read_text()))
    latents = empty(1, 4, side // 8, side // 8)
    return peak(lambda: vae.decode(latents))


def flux_step(side: int) -> int:
    """One call of FLUX.1's transformer with 512 tokens of text."""
    network = hollow("FluxTransformer2DModel", guidance_embeds=True)
    tokens = (side // 16) ** 2
    return peak(lambda: network(empty(1, tokens, 64), empty(1, 512, 4096), empty(1, 768), empty(1), empty(tokens, 3),
                                empty(512, 3), empty(1)))


def sd3_step(side: int, rows: int = 2) -> int:
    """One call of SD 3's transformer with 333 tokens of text."""
    network = hollow("SD3Transformer2DModel", num_layers=24, num_attention_heads=24, caption_projection_dim=1536,
                     pos_embed_max_size=192)
    return peak(lambda: network(empty(rows, 16, side // 8, side // 8), empty(rows, 333, 4096), empty(rows, 2048),
                                empty(rows)))


if __name__ == "__main__":
    deferred_import.postpone()
    runs: dict[str, Callable[[int], int]] = {
        **{f"{family} step, a row": lambda side, family=family: unet_step(family, side) // 2
           for family in ("sd15", "sd2", "sdxl")},
        **{f"{family} decode": lambda side, family=family: decode(family, side) for family in ("sd15", "sdxl")},
        "flux step": flux_step, "sd3 step, a row": lambda side: sd3_step(side) // 2}
    for name, run in runs.items():
        print(f"{name:22}", *(f"{side} px: {run(side) / 1e6:8.1f} MB, {run(side) / side**2:7.1f} B/px"
                              for side in SIDES), sep="   ")
