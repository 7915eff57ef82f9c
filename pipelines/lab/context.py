"""What the answers to the lab's pages work with, and what they make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import Cancelled, RequestError
from ..families import Family
from ..generation import samplers
from ..images.convert import flatten
from ..library.checkpoints import EMBEDDED_NAME
from ..models.offload import device_of
from ..queue.control import Control
from .assets import Shelf
from .filmstrip import Animation
from .latent import LatentState, TextDenoiser, start, walk
from .latentset import Frozen

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, SchedulerMixin


@dataclass(frozen=True)
class Scene:
    """pipe, family, placement, native_px, model: of the leased checkpoint; empty where a page needs none.

    native_px: the side of picture that it was made for. model: its name. device: where the rest is computed.
    say: puts a word that is drawn into a picture into the language of who asked.
    """

    shelf: Shelf
    open_image: Callable[[str], Image.Image]
    control: Control
    device: str = "auto"
    pipe: DiffusionPipeline | None = None
    family: Family | None = None
    placement: Any = None
    native_px: int = 0
    model: str = ""
    say: Callable[[str], str] = str

    def opened(self, image_id: str, side: int) -> Image.Image:
        """An uploaded picture, shrunk so that its longer side has at most so many pixels."""
        if not image_id:
            raise RequestError("Picture: none was given. Drop, paste or upload one first.", "image")
        image = flatten(self.open_image(image_id))
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        return image

    def states(self, sampler: str, steps: int, prompt: str, guidance_scale: float, seed: int) -> Iterator[LatentState]:
        """The checkpoint's steps from noise to picture."""
        scheduler = self.scheduler(sampler, steps)
        latents, generators = start(self.pipe, scheduler, self.native_px, self.native_px, [seed])
        denoiser = TextDenoiser(self.pipe, self.family, prompt, guidance_scale=guidance_scale)
        return walk(denoiser, sampler, scheduler, latents, generators)

    def scheduler(self, sampler: str, steps: int) -> SchedulerMixin:
        """A fresh scheduler. Raises RequestError for a checkpoint that only repaints."""
        pipe = self.pipe
        if pipe.unet.config.in_channels != pipe.vae.config.latent_channels:
            raise RequestError("Model: this one repaints pictures and cannot begin with noise alone. Choose another "
                               "one.", "model")
        return samplers.make(sampler, "Automatic", dict(pipe.scheduler.config), steps, device_of(pipe.unet))

    def frozen(self) -> Frozen | None:
        """The checkpoint's parts that runs of the recipe latents learn with."""
        pipe = self.pipe
        if pipe is None:
            return None
        name = "" if self.model == EMBEDDED_NAME else self.model
        return Frozen(name, pipe.vae, pipe.text_encoder, pipe.tokenizer)

    def go_on(self) -> None:
        """Raise Cancelled after Stop."""
        if self.control.stop.is_set():
            raise Cancelled("Stopped.")


@dataclass(frozen=True)
class Made:
    """A picture before it is saved."""

    caption: str
    content: Image.Image | Animation
