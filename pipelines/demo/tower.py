"""The image tower of the embedded model's CLIP: it tells how well a picture fits a text, offline.

Trained with the text encoder (clip.py) and shipped beside the model as tower.safetensors.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from . import MODEL_DIR

IMAGE_PX = 64
CHANNELS = (3, 32, 64, 128, 192)


class Block(nn.Module):
    """Halve the picture, then a residual pair of convolutions."""

    def __init__(self, inside: int, outside: int):
        super().__init__()
        self.down = nn.Conv2d(inside, outside, 3, stride=2, padding=1)
        self.body = nn.Sequential(nn.GroupNorm(8, outside), nn.SiLU(), nn.Conv2d(outside, outside, 3, padding=1),
                                  nn.GroupNorm(8, outside), nn.SiLU(), nn.Conv2d(outside, outside, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + self.body(x)


def image_tower(width: int) -> nn.Sequential:
    """(b, 3, 64, 64) in [-1, 1] -> (b, width). Convolutions, which learn from few pictures."""
    blocks = [Block(a, b) for a, b in zip(CHANNELS, CHANNELS[1:], strict=False)]
    return nn.Sequential(*blocks, nn.GroupNorm(8, CHANNELS[-1]), nn.SiLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                         nn.Linear(4 * CHANNELS[-1], width))


class Scorer:
    """Pictures and texts in one space, where the cosine tells how well they fit."""

    def __init__(self, image: nn.Module, text: nn.Module, projection: nn.Module, tokens):
        self.image, self.text, self.projection, self.tokens = image, text, projection, tokens

    @classmethod
    def load(cls, folder: Path = MODEL_DIR) -> Scorer:
        """Read the model folder's text encoder and the tower.safetensors beside the folder; float32, frozen."""
        from transformers import CLIPTextModel, CLIPTokenizer

        text = CLIPTextModel.from_pretrained(folder / "text_encoder").float().eval()
        width = text.config.hidden_size
        weights = {k: v.float() for k, v in load_file(folder.parent / "tower.safetensors").items()}
        both = nn.ModuleDict({"image": image_tower(width), "text_projection": nn.Linear(width, width, bias=False)})
        both.load_state_dict(weights)
        both.eval().requires_grad_(False)
        return cls(both["image"], text.requires_grad_(False), both["text_projection"],
                   CLIPTokenizer.from_pretrained(folder / "tokenizer"))

    def image_features(self, pixels: Tensor) -> Tensor:
        """(b, 3, h, w) in [-1, 1] -> (b, width), unit length; differentiable."""
        if pixels.shape[-2:] != (IMAGE_PX, IMAGE_PX):
            pixels = F.interpolate(pixels, (IMAGE_PX, IMAGE_PX), mode="bilinear", antialias=True)
        return F.normalize(self.image(pixels.float()), dim=-1)

    @torch.no_grad()
    def text_features(self, text: str) -> Tensor:
        """-> (1, width), unit length."""
        ids = self.tokens([text], truncation=True, max_length=self.tokens.model_max_length, return_tensors="pt")
        return F.normalize(self.projection(self.text(input_ids=ids.input_ids).pooler_output.float()), dim=-1)


def write(path: Path, image: nn.Module, projection: nn.Module) -> None:
    """Save both in half precision."""
    tensors = {f"{name}.{k}": v.detach().to("cpu", torch.float16).contiguous()
               for name, part in (("image", image), ("text_projection", projection))
               for k, v in part.state_dict().items()}
    save_file(tensors, path, metadata={"format": "pt"})
