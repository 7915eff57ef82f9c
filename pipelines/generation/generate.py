"""From a concrete request and a leased pipeline to finished pictures: one road for every task.

`run` is a generator of events. The stock pipelines are the oracle: the same components, scheduler and generators give
the same picture. Read on in init_latents.py (where the denoising starts), denoise.py (its loop) and backends/
(what the loop asks).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

import torch

from ..errors import Cancelled, OutOfMemory
from ..events import Event, ImageReady, Notice, StepDone
from ..families import Family
from ..machine import memory
from ..models.offload import device_of
from ..prompts import lora_tags
from ..prompts.embed import Conditionings, Embedder, Vectors
from ..prompts.schedule import plan, span_of
from ..prompts.texts import each
from ..queue.control import Control
from ..requests import Request, Txt2Img, changed
from . import decode, fitting, samplers
from .backends import diffusers_pipeline
from .backends.diffusers_pipeline import Adapters
from .backends.unet import Guidance, UNetPredictor
from .batches import Batch, Pace, Part, batches
from .denoise import denoise
from .init_latents import FromLatents, OpenImage, Source, source_of
from .noise import Draws
from .notices import unlike_asked
from .seamless import seamless
from .upscalers import Enlarge, lanczos

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def no_adapters(pipe: DiffusionPipeline, family: Family,
                uses: Sequence[lora_tags.Use]) -> AbstractContextManager[tuple[str, ...]]:
    """Leave the tags of a prompt without effect, and say so."""
    return nullcontext((f"There are no LoRAs here, so {', '.join(use.name for use in uses)} had no effect.",))


def run(request: Request, pipe: DiffusionPipeline, family: Family, open_image: OpenImage,
        control: Control | None = None, adapters: Adapters = no_adapters, enlarge: Enlarge = lanczos,
        vectors: Vectors | None = None) -> Iterator[Event]:
    """Make the pictures of a concrete request (no field is None, seed >= 0).

    Yields StepDone, Notice and ImageReady. Picture i uses seed + i with a CPU generator of its own. adapters: attaches
    what a prompt's tags ask for while its pictures are made, and gives sentences about it. vectors: embeddings that
    stand for their bare name in prompts. enlarge: brings pictures to a larger size by the upscaler that is named.
    Raises RequestError, ModelError, OutOfMemory, and Cancelled when stopped. Out of memory splits the batch, then moves
    what is not needed to the host, and only then gives up.
    """
    control = control or Control()
    source = source_of(request, open_image, enlarge, family.grain)
    yield from map(Notice, (*source.notices, *unlike_asked(request, family)))
    if not getattr(request, "redraw", True):
        if (yield from _prepared(source, device_of(getattr(pipe, family.core)), control)):
            yield ImageReady(source.enlarged, changed(each(request)[0], batch_size=1, batch_count=1), {})
        return
    pace = Pace(request.image_count)
    if family.engine == "diffusers_pipeline":
        maker = diffusers_pipeline.Maker(request, pipe, family, source, control, pace, adapters)
        at_once = request.batch_size
    else:
        at_once = fitting.fitting_batch(pipe.unet, request)
        maker = _Maker(request, pipe, family, source, control, pace, adapters, enlarge, vectors)
    if at_once < request.batch_size:
        yield Notice(f"Not enough memory for {request.batch_size} pictures at once; going on with {at_once}.")
    waiting = deque(batch.part(start, start + at_once) for batch in batches(request)
                    for start in range(0, request.batch_size, at_once))
    while waiting:
        batch, made = waiting.popleft(), 0
        with memory.attempt() as drawing:
            for event in maker.batch(batch):
                made += isinstance(event, ImageReady)
                yield event
        if not drawing.full:
            pace.images_left -= len(batch.seeds)
            if control.leave.is_set() and waiting:
                raise Cancelled("The page was away, so the rest was left out.")
            continue
        left = batch.part(made)
        pace.images_left -= made
        if not left.seeds:
            continue
        if len(left.seeds) > 1:
            half = (len(left.seeds) + 1) // 2
            waiting.extendleft([left.part(half), left.part(0, half)])
            yield Notice(f"Not enough memory for {len(left.seeds)} pictures at once; going on with {half}.")
        elif not maker.tight and device_of(pipe.unet).type != "cpu":
            maker.tight = True
            waiting.appendleft(left)
            yield Notice("Not enough memory; the text encoder and decoder wait in host memory meanwhile.")
        else:
            raise OutOfMemory(fitting.advice(request))


class _Maker:
    """Makes the batches of one request on one pipeline."""

    def __init__(self, request: Request, pipe: DiffusionPipeline, family: Family, source: Source, control: Control,
                 pace: Pace, adapters: Adapters, enlarge: Enlarge, vectors: Vectors | None):
        self._request, self._pipe, self._family, self._source = request, pipe, family, source
        self._control, self._pace = control, pace
        self._adapters, self._enlarge, self._vectors = adapters, enlarge, vectors
        self.tight = False  # whether what a step does not need waits in host memory
        self._told: set[str] = set()

    def batch(self, batch: Batch) -> Iterator[Event]:
        """Denoise and decode one batch; twice for hires fix."""
        request, pipe = batch.request, self._pipe
        prompt = request.prompt
        tiles = {axis: request.tiling in (axis, "both") for axis in "xy"}
        with seamless(pipe.unet, pipe.vae, **tiles):
            draws = Draws.of(request, batch.seeds, batch.variations, device_of(pipe.unet))
            first, last = _parts(request)
            latents = yield from self._denoise(batch, prompt, request, self._source, draws, first)
            source = self._source
            if latents is not None and last.before:
                second, prompt = _second_pass(request, prompt)
                source = FromLatents(request, latents, lambda one: decode.decode(pipe, one)[0], self._enlarge)
                latents = yield from self._denoise(batch, prompt, second, source, draws, last)
            if latents is not None:
                yield from self._finish(batch, source, latents)

    def _denoise(self, batch: Batch, prompt: str, request: Request, source: Source,
                 draws: Draws, part: Part) -> Generator[Event, None, torch.Tensor | None]:
        """One pass, with the LoRAs of its prompt. Returns the finished latents, or None when it was skipped."""
        prompt, uses = lora_tags.extract(prompt)
        with self._adapters(self._pipe, self._family, uses) if uses else nullcontext(()) as lines:
            yield from self._new(lines)
            return (yield from self._walk(batch, prompt, request, source, draws, part))

    def _walk(self, batch: Batch, prompt: str, request: Request, source: Source,
              draws: Draws, part: Part) -> Generator[Event, None, torch.Tensor | None]:
        pipe, family = self._pipe, self._family
        embedder = Embedder(pipe, family, clip_skip=request.clip_skip, vectors=self._vectors)
        guidance = _guidance(request)
        guided = guidance.scale > guidance.least and pipe.unet.config.time_cond_proj_dim is None
        scheduler = samplers.make(request.sampler, request.schedule, dict(pipe.scheduler.config), request.steps,
                                  device_of(pipe.unet), is_xl=family.pooled is not None)
        before = samplers.counted(self._request.sampler, self._request.steps) if part.before else 0
        span = span_of(request.steps, request.prompt_steps, before=before, order=scheduler.order,
                       counted=samplers.counted(request.sampler, request.steps))
        prompts = plan(prompt, request.negative_prompt, span, emphasis=request.emphasis)
        conditionings = Conditionings(embedder, prompts, guided=guided or prompts.composed)
        yield from self._new(conditionings.notices)
        if not (yield from _prepared(source, device_of(pipe.unet), self._control, batch.first, request.image_count)):
            return None
        with torch.inference_mode():
            start = source.start(pipe, scheduler, draws)
        predictor = UNetPredictor(pipe, family, scheduler, conditionings, guidance, start.extra)
        previews = decode.Previews(pipe, family)
        self._pace.restart()
        with ExitStack() as moved:
            if self.tight:
                encoders = [getattr(pipe, encoder) for _, encoder in family.text_encoders]
                moved.enter_context(memory.aside(pipe.vae, *encoders))
            for step in denoise(predictor, request.sampler, scheduler, start, draws.later or draws.generators,
                                _sampler_options(request)):
                if self._control.stop.is_set():
                    raise Cancelled("Stopped.")
                if self._control.skipped():
                    return None
                speed, seconds = self._pace.tick(step.index, step.count, len(batch.seeds), part)
                due = step.index < step.count and step.x0 is not None and not self.tight
                preview = previews.draw(step.x0) if due else None
                yield StepDone(part.before + step.index, part.before + step.count + part.after, batch.first,
                               self._request.image_count, speed, seconds, preview)
        decode.finite_or_raise(step.latents)
        return step.latents

    def _new(self, lines: Sequence[str]) -> Iterator[Notice]:
        """What was not said before; the passes and batches of a request have much in common."""
        for line in lines:
            if line not in self._told:
                self._told.add(line)
                yield Notice(line)

    def _finish(self, batch: Batch, source: Source, latents: torch.Tensor) -> Iterator[Event]:
        """Decode one by one, so that each is ready as soon as possible and fits in memory."""
        for i, one in enumerate(latents.split(1)):
            image, notices = decode.decode(self._pipe, one)
            if self._control.skipped():
                return
            yield from map(Notice, notices)
            varied = {"variation_seed": batch.variations[i]} if batch.variations else {}
            alone = changed(batch.request, seed=batch.seeds[i], batch_size=1, batch_count=1, **varied)
            yield ImageReady(source.finish(image), alone, {})


def _prepared(source: Source, device: torch.device, control: Control, image: int = 1,
              images: int = 1) -> Generator[Event, None, bool]:
    """Do what a source has to do before its batches. Returns whether it was done, and not skipped."""
    begin = perf_counter()
    for part, parts in source.prepare(device):
        if control.stop.is_set():
            raise Cancelled("Stopped.")
        if control.skipped():
            return False
        speed = part / max(perf_counter() - begin, 1e-9)
        yield StepDone(part, parts, image, images, speed, (parts - part) / speed, doing="Enlarging, part {} of {}")
    return True


def _parts(request: Request) -> tuple[Part, Part]:
    """The only pass of a picture; with hires fix, both of them."""
    scale = getattr(request, "hires_scale", 1)
    if scale <= 1:
        return Part(), Part()
    second, _ = _second_pass(request, "")
    before = samplers.calls(request.sampler, request.steps, request.schedule)
    after = samplers.calls(second.sampler, samplers.late_steps(second.steps, request.hires_strength), second.schedule)
    return Part(after=after, weight=scale**2), Part(before=before, weight=scale**2)


def _second_pass(request: Txt2Img, prompt: str) -> tuple[Txt2Img, str]:
    """The request and the prompt of hires fix's second pass: what is left empty is as in the first."""
    second = changed(request, prompt=prompt, steps=request.hires_steps or request.steps,
                     sampler=request.hires_sampler or request.sampler,
                     schedule=request.hires_schedule or request.schedule,
                     guidance_scale=request.hires_guidance_scale or request.guidance_scale,
                     negative_prompt=request.hires_negative_prompt or request.negative_prompt)
    own = request.hires_prompt.strip()
    if own and not lora_tags.extract(own)[0]:  # other LoRAs, for the same words
        own = f"{lora_tags.extract(prompt)[0]} {own}"
    return second, own or prompt


def _guidance(request: Request) -> Guidance:
    """How the request's sampler is guided: one that walks along the unguided noise takes a scale below 1 as well."""
    row, guidance = samplers.SAMPLERS[request.sampler], Guidance.of(request)
    return replace(guidance, scale=guidance.scale * row.guidance_share, least=0.0) if row.paired else guidance


def _sampler_options(request: Request) -> dict[str, float]:
    """What the request says to samplers that know it."""
    options = {"s_churn": request.s_churn, "s_noise": request.s_noise, "eta": request.eta}
    return {name: value for name, value in options.items() if value not in (None, Request.model_fields[name].default)}
