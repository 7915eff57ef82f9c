"""A run as a film strip: x_t, predicted x0, predicted noise and guidance direction at every k-th step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from PIL import Image
from torch import Tensor

from ..errors import RequestError
from ..families import Family
from ..generation import decode, samplers
from ..images.grid import grid
from ..models.offload import device_of
from .latent import LatentState, TextDenoiser, start, walk
from .sampling import State

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

ROWS = {"x_t": "x_t", "x0": "predicted x0", "eps": "predicted noise", "direction": "guidance"}
Format = Literal["webp", "gif"]
Paint = Callable[[Tensor], Image.Image]  # (c, h, w) -> picture


@dataclass(frozen=True)
class Frame:
    """One step in pictures, by the keys of ROWS; "direction" only under guidance."""

    step: int
    steps: int
    t: float
    pictures: dict[str, Image.Image]


def frames(states: Iterable[State | LatentState], paint: Paint, every: int = 1) -> Iterator[Frame]:
    """Picture the first of the batch at the first, every k-th and the last step."""
    for state in states:
        if not (state.step == 1 or state.step % every == 0 or state.step == state.steps):
            continue
        seen = {"x_t": state.view.x_t, "x0": state.view.x0, "eps": state.view.eps}
        if getattr(state, "direction", None) is not None:
            seen["direction"] = state.direction
        yield Frame(state.step, state.steps, float(state.level.t),
                    {name: paint(one[0].detach()) for name, one in seen.items()})


def paint_latents(pipe: DiffusionPipeline) -> Paint:
    """For latent models: through the autoencoder, whatever the latents mean; a direction is shown as if a picture."""
    return lambda latents: decode.decode(pipe, torch.nan_to_num(latents)[None])[0]


@dataclass(frozen=True)
class Strip:
    """How one of the rows of a comparison is made."""

    sampler: str
    steps: int
    schedule: str = "Automatic"

    @property
    def label(self) -> str:
        return f"{self.sampler}, {self.steps} steps"


def compare(pipe: DiffusionPipeline, family: Family, strips: Sequence[Strip], prompt: str, *, seed: int, width: int,
            height: int, guidance_scale: float = 7.0, every: int = 1) -> Iterator[tuple[Strip, Frame]]:
    """The same prompt and seed with several samplers and step counts, one after the other."""
    for strip in strips:
        scheduler = samplers.make(strip.sampler, strip.schedule, dict(pipe.scheduler.config), strip.steps,
                                  device_of(pipe.unet))
        latents, generators = start(pipe, scheduler, width, height, [seed])
        denoiser = TextDenoiser(pipe, family, prompt, guidance_scale=guidance_scale)
        for frame in frames(walk(denoiser, strip.sampler, scheduler, latents, generators), paint_latents(pipe), every):
            yield strip, frame


def sheet(shown: Sequence[Frame], say: Callable[[str], str] = str) -> Image.Image:
    """All frames on one picture: a column a step, a row a kind of view. say: puts labels into another language."""
    if not shown:
        raise RequestError("Film strip: there are no frames yet.")
    rows = {name: label for name, label in ROWS.items() if all(name in frame.pictures for frame in shown)}
    return grid([frame.pictures[name] for name in rows for frame in shown], columns=len(shown),
                row_labels=list(rows.values()), column_labels=[f"t = {frame.t:g}" for frame in shown], say=say)


def side_by_side(strips: Sequence[tuple[Strip, Sequence[Frame]]], kind: str = "x0", columns: int = 8,
                 say: Callable[[str], str] = str) -> Image.Image:
    """One row a strip, at the same shares of the way, so that different step counts line up."""
    pictures = []
    for _, shown in strips:
        at = [round(i * (len(shown) - 1) / max(1, columns - 1)) for i in range(columns)]
        pictures += [shown[i].pictures[kind] for i in at]
    return grid(pictures, columns=columns, row_labels=[strip.label for strip, _ in strips],
                column_labels=[f"{round(100 * i / max(1, columns - 1))} %" for i in range(columns)], say=say)


@dataclass(frozen=True)
class Animation:
    """Pictures that follow each other for ever. durations_ms: how long each is seen. form: of the file."""

    pictures: tuple[Image.Image, ...]
    durations_ms: tuple[int, ...]
    form: Format = "webp"


def animated(shown: Sequence[Frame], kind: str = "x0", form: Format = "webp", frame_ms: int = 120,
             last_ms: int = 1500) -> Animation:
    """One row as an animation whose last frame stays longer."""
    if not shown:
        raise RequestError("Film strip: there are no frames yet.")
    pictures = tuple(frame.pictures[kind] for frame in shown)
    return Animation(pictures, (frame_ms,) * (len(pictures) - 1) + (last_ms,), form)
