"""A training run on disk: one file that holds everything, written so that a kill leaves the old one or the new one."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..diffusion import noise_schedules
from ..errors import ModelError
from . import data, networks
from .latentset import Frozen

FILE = "checkpoint.pt"
FORMAT = 1


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write the state: tensors, numbers, texts, and lists and tables of them."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{FILE}.part"
    with open(part, "wb") as file:
        torch.save({"format": FORMAT, **state}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, folder / FILE)


def read(folder: Path) -> dict[str, Any]:
    """Read a state; nothing in the file is executed. Raises ModelError when there is none, or a damaged one."""
    try:
        state = torch.load(folder / FILE, map_location="cpu", weights_only=True)
        if state["format"] != FORMAT:
            raise ModelError("The run was saved by another version of the lab.")
        return state
    except FileNotFoundError:
        raise ModelError("There is no finished epoch in this folder yet.") from None
    except ModelError:
        raise
    except Exception as error:  # a damaged file raises many kinds
        raise ModelError("The run's checkpoint is damaged and cannot be read.") from error


@dataclass(frozen=True)
class Model:
    """A trained network and what it has to be used with.

    side: pixels, or latents of a text model. nothing: the context that asks for nothing in particular. parts: the
    frozen VAE and text encoder of a text model, else None.
    """

    network: nn.Module
    shape: networks.Shape
    schedule: noise_schedules.Schedule
    prediction: str
    classes: tuple[str, ...]
    side: int
    nothing: Tensor | None = None
    parts: Frozen | None = None

    def image(self, x: Tensor, enlarge: int = 1) -> Image.Image:
        """The picture of what a sampler arrived at (c, h, w)."""
        return data.to_image(x, enlarge) if self.parts is None else self.parts.picture(x)

    def noise(self, seeds: list[int]) -> tuple[Tensor, list[torch.Generator]]:
        """Unit noise (b, c, side, side), one seed a picture, and the generators it was drawn from."""
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        size = self.shape.channels, self.side, self.side
        return torch.stack([torch.randn(size, generator=one) for one in generators]), generators


def described(shape: networks.Shape, schedule: str, timesteps: int, prediction: str, classes: tuple[str, ...],
              side: int, frozen: str | None = None) -> dict[str, Any]:
    """What a checkpoint says of its model, so that it can be built again from the file alone."""
    return {"shape": asdict(shape), "schedule": schedule, "timesteps": timesteps, "prediction": prediction,
            "classes": list(classes), "side": side, "frozen": frozen}


def load_model(folder: Path, device: str | torch.device = "cpu", parts: Frozen | None = None) -> Model:
    """The averaged network of a run, ready to sample.

    parts: for a text model, the frozen parts it was trained with. Raises ModelError for others, and without any.
    """
    state = read(folder)
    about = state["model"]
    wanted = about.get("frozen")
    if wanted is None:
        parts = None
    elif parts is None or parts.name != wanted:
        raise ModelError("Model: this run was trained on the latents and texts of another model"
                         f"{f' ({wanted})' if wanted else ', the embedded one'}. Choose that one.")
    shape = networks.Shape(**about["shape"])
    network = networks.build(shape)
    network.load_state_dict(state["averaged"])
    nothing = torch.zeros(shape.classes) if parts is None else parts.states([""])[0]
    schedule = noise_schedules.make(about["schedule"], about["timesteps"])
    return Model(network.to(device).eval().requires_grad_(False), shape, schedule, about["prediction"],
                 tuple(about["classes"]), about["side"], nothing, parts)


def write_json(path: Path, value: object) -> None:
    """Write a small file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(part, path)
