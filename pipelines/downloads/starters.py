"""A short list of models to begin with, from starters.json, a data file that can be kept current. Fetches nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..families import FAMILIES
from ..library.read.card import ModelCard

FILE = Path(__file__).with_name("starters.json")


@dataclass(frozen=True)
class Starter:
    """source: what Download takes. good_for: one sentence. licence: as the model's card names it. parameters: how many
    numbers each network has."""

    source: str
    name: str
    good_for: str
    download_gb: float
    licence: str
    family: str
    parameters: Mapping[str, int]

    @property
    def card(self) -> ModelCard:
        """What its memory is estimated by."""
        family = FAMILIES[self.family]
        return ModelCard(name=self.source, title=self.name, path=None, family=self.family, kind="hub",
                         size_bytes=int(self.download_gb * 1e9), native_size=family.native_size, steps=family.steps,
                         guidance_scale=family.guidance_scale, sampler="", schedule="",
                         unet_parameters=self.parameters[family.core], fingerprint="", parameters=self.parameters)


@cache
def starters() -> tuple[Starter, ...]:
    """The models of the list, the smallest first."""
    return tuple(Starter(**each) for each in json.loads(FILE.read_text("utf-8"))["models"])
