"""Pictures from a model that was trained here: a request to draw becomes finished pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageOps

from ..errors import Cancelled, RequestError, quoted
from ..images.grid import grid
from ..machine import device
from ..queue.control import Control
from .checkpoints import Model
from .requests import Sample
from .sampling import Denoiser, State, ddim, ddpm, denoiser_of, mixed_context

SHOWN_PX = 64
LINE_PX, LINE = 2, (120, 120, 128)


@dataclass(frozen=True)
class Drawn:
    """A finished picture. number: from 0, so its seed is the request's plus number."""

    number: int
    seed: int
    image: Image.Image


def draw(request: Sample, model: Model, control: Control | None = None) -> Iterator[Drawn]:
    """Draw request.count pictures; each depends on its own seed alone. Raises Cancelled when stopped."""
    control = control or Control()
    enlarge = request.enlarge or max(1, SHOWN_PX // model.side)
    for first in range(0, request.count, request.batch_size):
        seeds = [request.seed + i for i in range(first, min(first + request.batch_size, request.count))]
        for state in walk(request, model, seeds):
            x = state.x
            if control.stop.is_set():
                raise Cancelled("Stopped.")
        for i, pixels in enumerate(x):
            yield Drawn(first + i, seeds[i], model.image(pixels, enlarge))


def walk(request: Sample, model: Model, seeds: list[int]) -> Iterator[State]:
    """The steps of one batch, for a film strip."""
    place = next(model.network.parameters()).device
    noise, generators = model.noise(seeds)
    denoiser = denoiser_for(model, request.label, request.guidance_scale, len(seeds))
    if request.sampler == "ddpm":
        return ddpm(denoiser, model.schedule, noise.to(place), generators)
    return ddim(denoiser, model.schedule, noise.to(place), generators, request.steps, request.eta)


def denoiser_for(model: Model, label: str, guidance_scale: float, count: int) -> Denoiser:
    """A model as a denoiser of `count` pictures. label: a class, a blend, or of a text model the prompt."""
    place, context = next(model.network.parameters()).device, None
    if model.parts is not None:
        context = model.parts.states([label]).expand(count, -1, -1)
    else:
        weights = class_weights(label, model.classes)
        context = mixed_context(weights, len(model.classes), count) if model.classes else None
    return denoiser_of(model.network, model.prediction, None if context is None else context.to(place), guidance_scale,
                       clip=model.parts is None, nothing=model.nothing)


def class_weights(label: str, classes: tuple[str, ...]) -> dict[int, float]:
    """Read "3", "food-drink", "3:0.5,8:0.5" or "" (any class). Raises RequestError naming the classes there are."""
    weights: dict[int, float] = {}
    for part in filter(None, (piece.strip() for piece in label.split(","))):
        name, _, weight = part.partition(":")
        name = name.strip()
        if not classes:
            raise RequestError("Class: this model was trained without classes.", "label")
        known = name in classes or (name.isascii() and name.isdigit() and int(name) < len(classes))
        if not known:
            raise RequestError(f"Class: {quoted(name)} is unknown. Known are {', '.join(classes)}.", "label")
        try:
            value = float(weight) if weight else 1.0
        except ValueError:
            value = -1.0
        if not 0 <= value <= 10:
            raise RequestError(f"Class: the weight {quoted(weight.strip(), 20)} is not possible. It is a number from "
                               "0 to 10.", "label")
        weights[classes.index(name) if name in classes else int(name)] = value
    return weights


def sheet(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Small pictures on one, with a line between them."""
    return grid([ImageOps.expand(image.convert("RGB"), LINE_PX, LINE) for image in images],
                columns=min(columns, len(images)))


def device_of(name: str) -> torch.device:
    """The device to compute on; "auto" takes the best there is. Raises RequestError for one that is missing."""
    return torch.device(device.choose(name, unet_parameters=0, half_vae=True).device)
