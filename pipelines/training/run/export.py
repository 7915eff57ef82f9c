"""The result of a run as others read it: LoRA files with what they say of themselves, or a whole model."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from PIL import Image

from ...adapters.delta import LowRank
from ...adapters.merge import merge
from ...adapters.write import About, write_diffusers, write_kohya, write_sidecars
from ...library.walk import NOTES, PICTURES
from ...models.cache import build
from ..dataset.captions import tags_of
from ..numbers.base_model import Base
from ..numbers.batches import Example
from ..numbers.trainable import Trainee
from ..request import TrainLora

if TYPE_CHECKING:
    pass

MAX_TAGS = 300  # of which the file tells how often they came


def keep_old(folder: Path, name: str) -> str | None:
    """Rename the LoRA or the model that has a result's name already, with the files beside it that tell of it.

    Returns the new name, None when nothing had the old one.
    """
    file, whole = folder / f"{name}.safetensors", folder / name
    if not file.exists() and not whole.exists():
        return None
    endings = ("", ".safetensors", *PICTURES, *NOTES)
    taken = {path.name.casefold() for path in folder.iterdir()}
    kept = next(f"{name}-{number}" for number in count(1)
                if not any(f"{name}-{number}{ending}".casefold() in taken for ending in endings))
    for ending in endings:
        if (path := folder / f"{name}{ending}").exists():
            path.rename(folder / f"{kept}{ending}")
    return kept


def parts(trainee: Trainee) -> dict[str, LowRank]:
    """Path -> what was learned for that layer, with the alpha by which every reader scales as training did."""
    found = {}
    for path, layer in trainee.adapter.layers.items():
        magnitude = layer.magnitude
        if magnitude is not None:
            magnitude = magnitude.detach().cpu().clone().view(-1, *[1] * (layer.down.dim() - 1))
        found[path] = LowRank(layer.down.detach().cpu().clone(), layer.up.detach().cpu().clone(),
                              alpha=layer.scale * layer.rank, dora_scale=magnitude)
    return found


@dataclass(frozen=True)
class Export:
    """Writes what a trainee has learned. examples: the pictures it learns from."""

    base: Base
    trainee: Trainee
    config: TrainLora
    examples: Sequence[Example]

    def checkpoint(self, folder: Path, step: int) -> str:
        """Write NAME-STEP.safetensors into a state's folder; returns its name. With the method full the state itself
        is all there is."""
        if self.trainee.adapter is None:
            return "state.safetensors"
        name = f"{self.config.name}-{step:06d}"
        return self._lora(folder, name, step, None)

    def result(self, folder: Path, step: int, preview: Path | None, second: Path) -> str:
        """Write the result into the output folder; returns its name.

        preview: a sample, for the card. second: where the same LoRA in diffusers' own format goes.
        """
        if self.trainee.adapter is None:
            return self._model(folder)
        picture = Image.open(preview) if preview else None
        name = self._lora(folder, self.config.name, step, picture)
        write_diffusers(second / name, parts(self.trainee), self._pipe, self._about(self.config.name, step),
                        self._dtype)
        return name

    @property
    def _pipe(self) -> SimpleNamespace:
        return SimpleNamespace(**self.base.components)

    @property
    def _dtype(self) -> torch.dtype:
        return getattr(torch, self.config.save_dtype)

    def _lora(self, folder: Path, name: str, step: int, preview: Image.Image | None) -> str:
        about = self._about(name, step)
        path = write_kohya(folder / f"{name}.safetensors", parts(self.trainee), self._pipe, self.base.family, about,
                           self._dtype)
        write_sidecars(path, self.base.family, about, preview)
        return path.name

    def _model(self, folder: Path) -> str:
        """A diffusers folder, which appears whole or not at all."""
        target = folder / self.config.name
        new = target.with_name(f".{target.name}.{os.getpid()}.made")
        pipe = build(self.base.family.name, "txt2img", self.base.components)
        merge(new, pipe, self.base.family, {}, self._dtype)
        new.rename(target)
        return target.name

    def _about(self, name: str, step: int) -> About:
        config = self.config
        own = [one for one in self.examples if not one.picture.is_prior]
        tags = Counter(tag for one in own for tag in tags_of(one.picture.caption))
        buckets = Counter(one.bucket for one in own)
        told = {
            "learning_rate": config.learning_rate, "unet_lr": config.learning_rate,
            "text_encoder_lr": config.text_encoder_learning_rate if config.text_encoder != "off" else None,
            "steps": step, "max_train_steps": config.steps, "num_train_images": len(own),
            "num_reg_images": len(self.examples) - len(own),
            "batch_size_per_device": config.batch_size, "gradient_accumulation_steps": config.accumulation,
            "optimizer": config.optimizer, "lr_scheduler": config.scheduler, "min_snr_gamma": config.min_snr_gamma,
            "noise_offset": config.noise_offset or None, "clip_skip": config.clip_skip, "seed": config.seed,
            "mixed_precision": str(self.base.autocast).removeprefix("torch."),
            "resolution": f"({config.resolution}, {config.resolution})",
            "tag_frequency": {config.name: dict(tags.most_common(MAX_TAGS))},
            "bucket_info": {"buckets": {str(i): {"resolution": list(size), "count": count}
                                        for i, (size, count) in enumerate(sorted(buckets.items()))}},
            "dataset_dirs": {config.name: {"n_repeats": config.repeats, "img_count": len(own)}}}
        return About(name=name, trigger_words=config.trigger, base=self.base.card.name,
                     resolution_px=config.resolution, prediction_type=self.base.prediction_type,
                     date=datetime.now(UTC).isoformat(timespec="seconds"),
                     training={key: value for key, value in told.items() if value is not None})
