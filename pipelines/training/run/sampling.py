"""Pictures in between, made by the same code as everybody's pictures, so that a sample is what the LoRA will give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ... import metadata
from ...errors import StudioError
from ...events import ImageReady
from ...generation import generate
from ...machine import memory
from ...models.cache import build
from ...requests import Txt2Img, make
from ..events import Event, Notice, SampleSaved
from ..numbers.base_model import Base
from ..request import TrainLora
from .folder import RunFolder
from .sample_prompts import SamplePrompt

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from PIL import Image


class Samples:
    """Draws fixed prompts with fixed seeds with the weights as they are, into the run's samples folder.

    Raises RequestError for a prompt that asks for what cannot be drawn. notices: what of the prompts is not read.
    """

    def __init__(self, base: Base, config: TrainLora, folder: RunFolder, prompts: Sequence[SamplePrompt]):
        self._base, self._config, self._folder = base, config, folder
        self._requests = [(prompt.line, self._request(number, prompt)) for number, prompt in enumerate(prompts)]
        self.notices = [f"Sample prompts: {unused[:80]} is not used." for prompt in prompts for unused in prompt.unused]

    def draw(self, step: int, most: int | None = None) -> Iterator[Event]:
        """One picture a prompt, of the first `most` ones. What goes wrong is said, and training goes on."""
        try:
            for number, (line, request) in enumerate(self._requests[:most]):
                yield from self._tried(step, number, line, request)
        finally:
            self._base.park(text_too=self._config.text_encoder == "off")

    def _tried(self, step: int, number: int, line: str, request: Txt2Img) -> Iterator[Event]:
        """Draw a picture, or say why it could not be."""
        with memory.attempt() as drawing:
            try:
                self._base.recall()
                self._folder.samples.mkdir(exist_ok=True)
                pipe = build(self._base.family.name, "txt2img", self._base.components)
                yield from self._one(pipe, step, number, line, request)
            except (StudioError, OSError) as error:
                yield Notice(step, f"A sample could not be made: {error}")
        if drawing.full:
            yield Notice(step, "A sample could not be made: not enough memory.")

    def _request(self, number: int, prompt: SamplePrompt) -> Txt2Img:
        card, config = self._base.card, self._config
        usual = dict(model=card.name, seed=(config.sample_seed + number) % 2**32, sampler=card.sampler,
                     schedule=card.schedule, steps=config.sample_steps or card.steps,
                     guidance_scale=float(card.guidance_scale), width=card.native_size, height=card.native_size,
                     clip_skip=config.clip_skip)
        return make(Txt2Img, **{**usual, **prompt.values, "prompt": prompt.prompt})

    def _one(self, pipe: DiffusionPipeline, step: int, number: int, line: str, request: Txt2Img) -> Iterator[Event]:
        for event in generate.run(request, pipe, self._base.family, _no_image):
            if isinstance(event, ImageReady):
                file = f"samples/{step:07d}-{number}.png"
                metadata.save_png(event.image, self._folder.path / file, metadata.infotext(event.request))
                yield SampleSaved(step, file, line, request.seed)


def _no_image(image_id: str) -> Image.Image:
    raise StudioError("A sample starts from noise.")
