"""Four small denoising networks with one signature: (x_t, t, context) -> output of x_t's shape.

x_t: (b, c, h, w). t: (b,) timesteps. context: (b, classes) class weights, all 0 for "any class", None without classes;
of the kind "text" the states of a text encoder (b, places, width), width being the shape's classes.
U-Net: Ronneberger et al. 2015 (arXiv:1505.04597), in the form of Ho et al. 2020 (arXiv:2006.11239, app. B).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kind = Literal["context", "attention", "unet2d", "text"]


@dataclass(frozen=True)
class Shape:
    """What a network is built from; it stands in every checkpoint. width: channels at full resolution."""

    kind: Kind = "context"
    channels: int = 1
    classes: int = 0
    width: int = 32
    levels: int = 2

    @property
    def multiple(self) -> int:
        """Sides must be multiples of this many pixels."""
        return 2 ** (self.levels - 1)


def build(shape: Shape) -> nn.Module:
    """A network with fresh weights."""
    return {"unet2d": StockUNet, "text": TextUNet}.get(shape.kind, ContextUNet)(shape)


class ContextUNet(nn.Module):
    """Down to half the resolution at each level and up again, with time and class told to every block.

    With kind "attention" every block is followed by a look at the label (cross-attention), as Stable Diffusion looks
    at its prompt.
    """

    def __init__(self, shape: Shape):
        super().__init__()
        told = 4 * shape.width
        widths = [shape.width * 2**level for level in range(shape.levels)]
        self.time = nn.Sequential(Waves(shape.width), nn.Linear(shape.width, told), nn.SiLU(), nn.Linear(told, told))
        self.label = nn.Linear(shape.classes, told, bias=False) if shape.classes else None

        def block(inside: int, outside: int) -> Block:
            return Block(inside, outside, told, attention=shape.kind == "attention")

        self.stem = nn.Conv2d(shape.channels, shape.width, 3, padding=1)
        self.down = nn.ModuleList(block(widths[max(0, i - 1)], width) for i, width in enumerate(widths))
        self.middle = block(widths[-1], widths[-1])
        self.up = nn.ModuleList(block(2 * width, widths[max(0, i - 1)]) for i, width in enumerate(widths))
        self.head = nn.Sequential(norm(shape.width), nn.SiLU(), nn.Conv2d(shape.width, shape.channels, 3, padding=1))
        nn.init.zeros_(self.head[-1].weight)  # the first answer is 0: a calm start

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        time = self.time(t)
        label = torch.zeros_like(time) if self.label is None or context is None else self.label(context.to(time))
        h, kept = self.stem(x), []
        for i, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2) if i else h, time, label)
            kept.append(h)
        h = self.middle(h, time, label)
        for i, block in reversed(list(enumerate(self.up))):
            h = block(torch.cat([h, kept[i]], 1), time, label)
            h = F.interpolate(h, scale_factor=2.0) if i else h
        return self.head(h)


class Block(nn.Module):
    """Two convolutions beside a shortcut; between them, time and class scale and shift every channel.

    Adaptive group normalisation: y_s norm(h) + y_b, y a projection of time and class (Dhariwal & Nichol 2021,
    arXiv:2105.05233, sec. 3.1).
    """

    def __init__(self, inside: int, outside: int, told: int, attention: bool = False):
        super().__init__()
        self.first = nn.Sequential(norm(inside), nn.SiLU(), nn.Conv2d(inside, outside, 3, padding=1))
        self.norm = norm(outside)
        self.scale_shift = nn.Linear(told, 2 * outside)
        self.second = nn.Sequential(nn.SiLU(), nn.Conv2d(outside, outside, 3, padding=1))
        self.shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()
        self.attention = CrossAttention(outside, told) if attention else None

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        h = self.first(x)
        scale, shift = self.scale_shift(F.silu(time + label))[..., None, None].chunk(2, 1)
        h = self.shortcut(x) + self.second(self.norm(h) * (1 + scale) + shift)
        return h if self.attention is None else h + self.attention(h, label)


class CrossAttention(nn.Module):
    """Every place looks at two tokens, "nothing" and the label: softmax(q k^T / sqrt(d)) v.

    Vaswani et al. 2017 (arXiv:1706.03762), eq. 1, with several heads; text in its place is Rombach et al. 2022
    (arXiv:2112.10752), sec. 3.3. The projections have the names that LoRA is usually injected into.
    """

    def __init__(self, width: int, told: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm = norm(width)
        self.nothing = nn.Parameter(torch.randn(told) / told**0.5)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(told, width, bias=False)
        self.to_v = nn.Linear(told, width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        tokens = torch.stack([self.nothing.to(label).expand_as(label), label], 1)                # (b, 2, told)
        places = self.norm(x).flatten(2).transpose(1, 2)                                         # (b, h w, width)
        q, k, v = (self._split(one) for one in (self.to_q(places), self.to_k(tokens), self.to_v(tokens)))
        seen = F.scaled_dot_product_attention(q, k, v)                                           # (b, heads, h w, d)
        return self.to_out(seen.transpose(1, 2).flatten(2)).transpose(1, 2).view_as(x)

    def _split(self, x: Tensor) -> Tensor:
        """(b, n, heads d) -> (b, heads, n, d)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Waves(nn.Module):
    """Timesteps as sines and cosines of falling frequency: (b,) -> (b, width). arXiv:1706.03762, sec. 3.5."""

    def __init__(self, width: int, longest: float = 10_000.0):
        super().__init__()
        half = width // 2
        frequencies = torch.exp(-math.log(longest) * torch.arange(half) / half)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None].float() * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], 1).to(self.frequencies)


class StockUNet(nn.Module):
    """diffusers' UNet2DModel behind the same signature. Without classes it is an ordinary DDPMPipeline's U-Net."""

    def __init__(self, shape: Shape):
        from diffusers import UNet2DModel

        super().__init__()
        widths = tuple(shape.width * 2**level for level in range(shape.levels))
        self.unet = UNet2DModel(
            in_channels=shape.channels, out_channels=shape.channels, block_out_channels=widths, layers_per_block=1,
            down_block_types=("DownBlock2D",) * shape.levels, up_block_types=("UpBlock2D",) * shape.levels,
            norm_num_groups=8, attention_head_dim=8, class_embed_type="identity" if shape.classes else None)
        self.label = nn.Linear(shape.classes, 4 * shape.width, bias=False) if shape.classes else None

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        if self.label is None:
            return self.unet(x, t, return_dict=False)[0]
        told = self.label(x.new_zeros(len(x), self.label.in_features) if context is None else context.to(x))
        return self.unet(x, t, class_labels=told, return_dict=False)[0]


class TextUNet(nn.Module):
    """diffusers' UNet2DConditionModel, Stable Diffusion's own, small: every level looks at the text."""

    def __init__(self, shape: Shape):
        from diffusers import UNet2DConditionModel

        super().__init__()
        widths = tuple(shape.width * 2**level for level in range(shape.levels))
        self.unet = UNet2DConditionModel(
            in_channels=shape.channels, out_channels=shape.channels, block_out_channels=widths, layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * shape.levels, norm_num_groups=8, attention_head_dim=8,
            up_block_types=("CrossAttnUpBlock2D",) * shape.levels, cross_attention_dim=shape.classes)

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        return self.unet(x, t, context.to(x), return_dict=False)[0]


def norm(width: int) -> nn.GroupNorm:
    """Group normalisation in eight groups (Wu & He 2018, arXiv:1803.08494)."""
    return nn.GroupNorm(8, width)
