"""Where in the picture each word is looked at: the cross-attention of a run, averaged over heads, layers and steps.

Tang et al. 2023, "What the DAAM: Interpreting Stable Diffusion Using Cross Attention" (arXiv:2210.04885), sec. 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

# From dark blue over green to yellow: six stops of matplotlib's viridis (CC0).
STOPS = ((68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37))


class HeatMaps:
    """Sums of attention over the calls of a run. count: calls seen."""

    def __init__(self, height: int, width: int, rows: int = 1):
        """height, width: of the latents. rows: what a batch is made of; the last of them belongs to the prompt."""
        self._size, self._rows, self._sum, self.count = (height, width), rows, None, 0

    def add(self, probabilities: Tensor, heads: int) -> None:
        """probabilities: (batch x heads, places, tokens), places at some fraction of the latents' resolution."""
        tokens = probabilities.shape[-1]
        batch = probabilities.unflatten(0, (-1, heads)).mean(1)                              # (batch, places, tokens)
        prompt = batch[-(len(batch) // self._rows):].mean(0).T                               # (tokens, places)
        shrink = round((self._size[0] * self._size[1] / prompt.shape[1]) ** 0.5)
        height = -(-self._size[0] // shrink)
        grid = prompt.reshape(1, tokens, height, -1).float()
        grown = F.interpolate(grid, self._size, mode="bicubic")[0].clamp(min=0).cpu()
        self._sum = grown if self._sum is None else self._sum + grown
        self.count += 1

    def of(self, tokens: slice | list[int]) -> Tensor:
        """Mean map (h, w) of a word's tokens, by their places in the prompt, the start mark being 0."""
        if self._sum is None:
            raise ValueError("no cross-attention has been seen")
        return self._sum[tokens].mean(0) / self.count


@contextmanager
def recorded(unet: UNet2DConditionModel, height: int, width: int, rows: int = 2) -> Iterator[HeatMaps]:
    """Record the U-Net's cross-attention meanwhile; afterwards its own processors are back, whatever happened.

    height, width: of the latents. rows: 2 under classifier-free guidance, 1 without.
    """
    maps, before = HeatMaps(height, width, rows), dict(unet.attn_processors)
    try:
        unet.set_attn_processor({name: Recording(maps) if name.endswith("attn2.processor") else processor
                                 for name, processor in before.items()})
        yield maps
    finally:
        unet.set_attn_processor(before)


class Recording:
    """Attention written out, so that its weights can be kept: softmax(q k^T / sqrt(d)) v (arXiv:1706.03762, eq. 1).

    Takes the place of a processor of diffusers' Attention in a U-Net's transformer blocks.
    """

    def __init__(self, maps: HeatMaps):
        self._maps = maps

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
                 attention_mask: Tensor | None = None, **_: Any) -> Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = (attn.head_to_batch_dim(one) for one in
                   (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)))
        probabilities = attn.get_attention_scores(q, k, attention_mask)
        self._maps.add(probabilities.detach(), attn.heads)
        return attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(probabilities @ v)))


def overlay(image: Image.Image, heat: Tensor, strength: float = 0.6) -> Image.Image:
    """Lay a heat map (h, w) over a picture, its lowest value as the first of STOPS and its highest as the last."""
    level = (heat - heat.min()) / (heat.max() - heat.min()).clamp(min=1e-9)
    size = image.height, image.width
    level = F.interpolate(level[None, None], size, mode="bilinear")[0, 0].numpy() * (len(STOPS) - 1)
    stops = np.asarray(STOPS, np.float32)
    colours = np.stack([np.interp(level, range(len(STOPS)), stops[:, i]) for i in range(3)], -1).astype(np.uint8)
    return Image.blend(image.convert("RGB"), Image.fromarray(colours), strength)


def coloured(level: float) -> tuple[int, int, int]:
    """The colour of 0 (the first of STOPS) to 1 (the last)."""
    return tuple(round(float(np.interp(level * (len(STOPS) - 1), range(len(STOPS)), channel)))
                 for channel in zip(*STOPS, strict=True))


def words_of(pieces: list[str]) -> dict[str, list[int]]:
    """Words and the places of their tokens, from a CLIP tokenizer's pieces, in which "</w>" ends a word.

    Places count from 1, after the start mark. A word that occurs twice has the tokens of both.
    """
    words: dict[str, list[int]] = {}
    open_places: list[int] = []
    text = ""
    for place, piece in enumerate(pieces, 1):
        open_places.append(place)
        text += piece.removesuffix("</w>")
        if piece.endswith("</w>"):
            words.setdefault(text, []).extend(open_places)
            open_places, text = [], ""
    return words

