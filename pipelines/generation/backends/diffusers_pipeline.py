"""Runs a family by the library's own pipeline: one call draws a picture, and the scheduler's steps tell how far it is.

The call runs on a thread of its own, because a pipeline does not pause while its caller reports a step. Pictures of a
batch are drawn one after the other: given several generators, some of these pipelines fail, and others draw another
picture than they do for one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from queue import SimpleQueue
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ...errors import Cancelled
from ...events import Event, ImageReady, Notice, StepDone
from ...families import Family
from ...machine.device import make_current
from ...models.offload import device_of
from ...prompts import lora_tags
from ...prompts.schedule import Sections, plan
from ...queue.control import Control
from ...requests import Request, changed
from ..batches import Batch, Pace
from ..decode import finite_or_raise
from ..fitted_previews import Glimpses
from ..init_latents import Source

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline, SchedulerMixin

# (pipe, family, what the tags ask for) -> a context that has it attached and gives sentences for the person
Adapters = Callable[[Any, Family, Sequence[lora_tags.Use]], AbstractContextManager[tuple[str, ...]]]


class Maker:
    """Makes the batches of one request by its family's own pipeline."""

    tight = True  # there is nothing to move out of the way: offloading was decided when the model was placed

    def __init__(self, request: Request, pipe: DiffusionPipeline, family: Family, source: Source, control: Control,
                 pace: Pace, adapters: Adapters):
        self._request, self._pipe, self._family, self._source = request, pipe, family, source
        self._control, self.pace, self._adapters = control, pace, adapters
        self._glimpses = Glimpses(pipe, family.stock)
        self._told: set[str] = set()  # prompts whose notices were given

    def batch(self, batch: Batch) -> Iterator[Event]:
        """Draw the pictures of a batch, each by a call of its own."""
        plain, uses = lora_tags.extract(batch.request.prompt)
        prompt, negative, notices = self._texts(plain, batch.request)
        with ExitStack() as undone:
            lines = undone.enter_context(self._adapters(self._pipe, self._family, uses)) if uses else ()
            if batch.request.prompt not in self._told:
                self._told.add(batch.request.prompt)
                yield from map(Notice, (*lines, *notices))
            for i, seed in enumerate(batch.seeds):
                image = yield from self._drawn(batch.first + i, self._arguments(seed, prompt, negative))
                if image is not None:
                    alone = changed(batch.request, seed=seed, batch_size=1, batch_count=1)
                    yield ImageReady(self._source.finish(image), alone, {})

    def _texts(self, prompt: str, request: Request) -> tuple[str, str, tuple[str, ...]]:
        """The plain prompt and negative prompt, and what of them has no effect with this family."""
        label, notices = self._family.label, []
        read = plan(prompt, request.negative_prompt, request.steps, emphasis=request.emphasis)
        scene = read.scenes[0]
        text, negative = scene.prompts[0][0], scene.negative
        weights = {piece.weight for sections in (text, negative) for section in sections for piece in section}
        if weights - {1.0} or len(scene.prompts) > 1:
            notices.append(f"{label} reads plain text: weights and AND in the prompt had no effect.")
        if len(set(read.scenes)) > 1:
            notices.append(f"{label} reads one text for all steps: the prompt of the first step was used.")
        if request.negative_prompt.strip() and not self._family.stock.negative:
            notices.append(f"{label} reads no negative prompt; it had no effect.")
        return _plain(text), _plain(negative), (*read.notices, *notices)

    def _arguments(self, seed: int, prompt: str, negative: str) -> dict[str, Any]:
        """What the task's pipeline is called with."""
        request, stock, source = self._request, self._family.stock, self._source
        picture = getattr(source, "picture", None)
        width, height = picture.size if picture else (request.width, request.height)
        wanted = {
            "prompt": prompt, "width": width, "height": height, "max_area": width * height,
            "num_inference_steps": request.steps, stock.guidance: request.guidance_scale,
            "output_type": "pil", "generator": torch.Generator("cpu").manual_seed(seed), **stock.arguments}
        if stock.negative:
            wanted["negative_prompt"] = negative
        if picture:
            # One step at least: the library refuses a strength that leaves none.
            wanted |= {"image": picture, "strength": min(1.0, max(request.strength, 1.000001 / request.steps))}
        if hasattr(source, "work_mask"):
            wanted["mask_image"] = source.work_mask
        known = inspect.signature(self._pipe.__call__).parameters
        return {name: value for name, value in wanted.items() if name in known}

    def _drawn(self, number: int, arguments: dict[str, Any]) -> Generator[Event, None, Image.Image | None]:
        """Call the pipeline and report its steps. Returns the picture, None when it was skipped."""
        steps: SimpleQueue[tuple[int, int, Image.Image | None] | None] = SimpleQueue()
        abandoned = Flag()
        size = arguments.get("width", 0), arguments.get("height", 0)

        def watch(index: int, count: int, *step: Any) -> None:
            if self._control.stop.is_set() or abandoned.is_set():
                raise Cancelled("Stopped.")
            if self._control.skipped():
                raise _Skipped
            steps.put((index, count, self._glimpses.draw(*step, size) if index < count else None))

        self.pace.restart()
        with ThreadPoolExecutor(1, "draw") as thread:
            call = thread.submit(self._call, arguments, watch)
            call.add_done_callback(lambda _: steps.put(None))
            try:
                while (step := steps.get()) is not None:
                    *done, preview = step
                    speed, seconds = self.pace.tick(*done, 1)
                    yield StepDone(*done, number, self._request.image_count, speed, seconds, preview)
            finally:
                abandoned.set()
        try:
            image = call.result()
        except _Skipped:
            return None
        return None if self._control.skipped() else image  # it may have been said during the decode

    def _call(self, arguments: dict[str, Any], watch: Callable[..., None]) -> Image.Image:
        pipe = self._pipe
        make_current(str(device_of(getattr(pipe, self._family.core))))  # a new thread begins with the first card
        pipe.set_progress_bar_config(disable=True)
        with ExitStack() as undone:
            for part in pipe.components.values():
                if hasattr(part, "set_timesteps"):
                    undone.enter_context(watched(part, watch))
            return pipe(**arguments).images[0]


class _Skipped(Exception):
    """The picture is to be left out."""


@contextmanager
def watched(scheduler: SchedulerMixin, tell: Callable[..., None]) -> Iterator[None]:
    """Call tell(index from 1, count, scheduler, what the step took, the latents it gave) after each of a scheduler's
    steps; what it raises ends the run.

    Raises ModelError when the last step left values that are no numbers.
    """
    plain, signature = scheduler.step, inspect.signature(scheduler.step)
    begin, index = 0, 0

    @functools.wraps(plain)  # pipelines look at the signature
    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal begin, index
        result, taken = plain(*args, **kwargs), signature.bind(*args, **kwargs).arguments
        if index == 0:  # a strength leaves the first ones out
            at = (scheduler.timesteps == taken["timestep"]).nonzero()
            begin = int(at[0]) if len(at) else 0
        index += 1
        count = len(scheduler.timesteps) - begin
        if index >= count:
            finite_or_raise(result[0])
        tell(index, max(index, count), scheduler, taken, result[0])
        return result

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step


def _plain(sections: Sections) -> str:
    return " ".join("".join(piece.text for piece in section).strip() for section in sections).strip()
