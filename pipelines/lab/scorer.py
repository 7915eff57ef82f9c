"""Finds a model that compares pictures with text, for guidance by a prompt.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision" (arXiv:2103.00020).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..demo import MODEL_DIR
from ..errors import ModelError
from ..library.checkpoints import EMBEDDED_NAME
from ..models.offload import device_of
from .context import Scene
from .guidance import Scorer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOWER = MODEL_DIR.parent / "tower.safetensors"
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's pictures


class Clip:
    """A CLIP checkpoint in transformers' form."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase):
        self._model, self._tokenizer = model.eval().requires_grad_(False), tokenizer
        self._side = model.config.vision_config.image_size

    def image_features(self, pixels: Tensor) -> Tensor:
        """(b, 3, h, w) in -1..1 -> (b, d), differentiable."""
        unit = F.interpolate(pixels / 2 + 0.5, (self._side, self._side), mode="bicubic", antialias=True)
        mean, deviation = (unit.new_tensor(one).view(1, 3, 1, 1) for one in (MEAN, DEVIATION))
        seen = self._model.vision_model(pixel_values=((unit - mean) / deviation).to(self._model.dtype)).pooler_output
        return self._model.visual_projection(seen).float()

    def text_features(self, prompt: str) -> Tensor:
        """-> (1, d)."""
        told = self._tokenizer([prompt], truncation=True, return_tensors="pt").to(self._model.device)
        with torch.no_grad():
            return self._model.text_projection(self._model.text_model(**told).pooler_output).float()


def find(scene: Scene, tower: Path = TOWER) -> Scorer | None:
    """The embedded model's image tower for itself, a CLIP checkpoint from the model folders for others, else None.

    tower: the tower's weights; where there is no CLIP checkpoint, it judges the pictures of other models too.
    """
    folder = scene.shelf.clip_folder()
    device = torch.device("cpu") if scene.pipe is None else device_of(scene.pipe.unet)
    if tower.is_file() and (folder is None or scene.model == EMBEDDED_NAME):
        from ..demo.tower import Scorer as Tower

        found = Tower.load()
        found.image.to(device)
        return found
    return None if folder is None else load(folder, device)


def load(folder: Path, device: torch.device) -> Clip:
    """A CLIP folder, safetensors only. Raises ModelError for one that cannot be read."""
    from transformers import CLIPModel, CLIPTokenizerFast

    try:
        model = CLIPModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        return Clip(model.to(device), CLIPTokenizerFast.from_pretrained(folder, local_files_only=True))
    except Exception as error:  # transformers raises many kinds for damaged folders
        raise ModelError("Goal: the CLIP checkpoint in the model folder cannot be read.") from error
