"""From a concrete request and a leased pipeline to finished pictures: one denoise loop for the three tasks.

`run` is a generator of events. Torch modes are entered once a step and never held across a yield, because a
generator may be resumed and closed by different threads, and the mode would stay on in one of them.
The stock pipelines are the oracle: the same components, scheduler and generators give the same picture.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from . import decode, memory, samplers
from .control import Control
from .errors import Cancelled, OutOfMemory, RequestError
from .events import Event, ImageReady, Notice, StepDone
from .families import Family
from .prompts.embed import Conditioning, Conditionings, Embedder
from .prompts.schedule import plan
from .requests import Request, changed
from .sources import LATENT_PX, OpenImage, Source, Start, source_of

SMOOTHING = 0.3  # weight of the newest step in the shown speed


@dataclass(frozen=True)
class Batch:
    """Pictures that are made at once: one prompt, one seed each. first: number of the first picture, from 1."""

    prompt: str
    seeds: tuple[int, ...]
    first: int


@dataclass(frozen=True)
class Step:
    """One model call. index counts from 1; latents and x0: (b, 4, h, w)."""

    index: int
    count: int
    latents: torch.Tensor
    x0: torch.Tensor


class Pace:
    """Smoothed speed of the steps, and the time that the rest will take."""

    def __init__(self, images: int):
        self._last, self._step_s, self.images_left = perf_counter(), 0.0, images

    def tick(self, index: int, count: int, batch: int) -> tuple[float, float]:
        """Count one step; returns (steps a second, seconds left for the whole request)."""
        now = perf_counter()
        took, self._last = now - self._last, now
        self._step_s = took if not self._step_s else (1 - SMOOTHING) * self._step_s + SMOOTHING * took
        batches_after = max(0, self.images_left - batch) / batch
        return 1 / max(self._step_s, 1e-9), self._step_s * (count - index + count * batches_after)

    def restart(self) -> None:
        """Leave what happened since the last step (encoding, decoding) out of the next one's time."""
        self._last = perf_counter()


def run(request: Request, pipe: Any, family: Family, open_image: OpenImage,
        control: Control | None = None) -> Iterator[Event]:
    """Make the pictures of a concrete request (no field is None, seed >= 0).

    Yields StepDone, Notice and ImageReady. Picture i uses seed + i with a CPU generator of its own. Raises
    RequestError, ModelError, OutOfMemory, and Cancelled when stopped. Out of memory splits the batch, then moves
    what is not needed to the host, and only then gives up.
    """
    control = control or Control()
    source = source_of(request, open_image)
    yield from map(Notice, source.notices)
    waiting, pace, tight = deque(_batches(request)), Pace(request.image_count), False
    embedder = Embedder(pipe, family, clip_skip=request.clip_skip)
    while waiting:
        batch, made, full = waiting.popleft(), 0, False
        try:
            for event in _make(request, batch, source, pipe, family, embedder, control, pace, tight):
                made += isinstance(event, ImageReady)
                yield event
        except Exception as error:
            if not memory.is_out_of_memory(error):
                raise
            full = True
        if not full:
            pace.images_left -= len(batch.seeds)
            if control.leave.is_set():
                raise Cancelled("The page was away, so the rest was left out.")
            continue
        memory.free()  # outside the except block: its traceback would keep the tensors
        left, first = batch.seeds[made:], batch.first + made
        pace.images_left -= made
        if not left:
            continue
        if len(left) > 1:
            half = (len(left) + 1) // 2
            waiting.appendleft(Batch(batch.prompt, left[half:], first + half))
            waiting.appendleft(Batch(batch.prompt, left[:half], first))
            yield Notice(f"Not enough memory for {len(left)} pictures at once; going on with {half}.")
        elif not tight and pipe.unet.device.type != "cpu":
            tight = True
            waiting.appendleft(Batch(batch.prompt, left, first))
            yield Notice("Not enough memory; the text encoder and decoder wait in host memory meanwhile.")
        else:
            width, height = memory.smaller_size(request)
            raise OutOfMemory(f"Not enough memory for {request.width}x{request.height} px. "
                              f"Try {width}x{height} px, or fewer pictures at once.")


def _batches(request: Request) -> Iterator[Batch]:
    number = 0
    for prompt in request.prompts:
        for _ in range(request.batch_count):
            seeds = tuple((request.seed + number + i) % 2**32 for i in range(request.batch_size))
            yield Batch(prompt, seeds, number + 1)
            number += request.batch_size


def _make(request: Request, batch: Batch, source: Source, pipe: Any, family: Family, embedder: Embedder,
          control: Control, pace: Pace, tight: bool) -> Iterator[Event]:
    """Denoise and decode one batch."""
    guided = request.guidance_scale > 1 and pipe.unet.config.time_cond_proj_dim is None
    prompts = plan(batch.prompt, request.negative_prompt, request.steps)
    conditionings = Conditionings(embedder, prompts, guided=guided or prompts.composed)
    if (batch.first - 1) % (request.batch_size * request.batch_count) == 0:  # once for each prompt
        yield from map(Notice, (*prompts.notices, *embedder.notices))
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in batch.seeds]
    scheduler = samplers.make(request.sampler, request.schedule, dict(pipe.scheduler.config), request.steps,
                              pipe.unet.device)
    with torch.inference_mode():
        start = source.start(pipe, scheduler, generators)
    previews = decode.Previews(pipe, family)
    pace.restart()
    with ExitStack() as moved:
        if tight:
            encoders = [getattr(pipe, encoder) for _, encoder in family.text_encoders]
            moved.enter_context(memory.aside(pipe.vae, *encoders))
        for step in denoise(pipe, family, request.sampler, scheduler, start, conditionings, request.guidance_scale,
                            generators):
            if control.stop.is_set():
                raise Cancelled("Stopped.")
            if control.skip.is_set():
                control.skip.clear()
                return
            speed, seconds = pace.tick(step.index, step.count, len(batch.seeds))
            preview = previews.draw(step.x0) if step.index < step.count and not tight else None
            yield StepDone(step.index, step.count, batch.first, request.image_count, speed, seconds, preview)
    latents = step.latents
    decode.finite_or_raise(latents)
    for seed, one in zip(batch.seeds, decode.iterate(latents), strict=True):
        image, notices = decode.decode(pipe, one)
        yield from map(Notice, notices)
        alone = changed(request, prompt=batch.prompt, seed=seed, batch_size=1, batch_count=1, prompt_lines=False)
        yield ImageReady(source.finish(image), alone, {})


def denoise(pipe: Any, family: Family, sampler: str, scheduler: Any, start: Start,
            conditionings: Conditionings | Conditioning, guidance_scale: float,
            generators: Sequence[torch.Generator]) -> Iterator[Step]:
    """Walk from start.latents along start.timesteps, yielding after every model call.

    A second-order solver calls the model twice a step; prompts change with the steps, which count from start.begin.
    The last step's latents are the result, with the kept part of a mask put back.
    """
    latents, count = start.latents, len(start.timesteps)
    accepted = inspect.signature(scheduler.step).parameters
    kwargs = {"generator": list(generators)} if "generator" in accepted else {}
    distilled = pipe.unet.config.time_cond_proj_dim is not None  # such a model is told the guidance instead
    scale = 1.0 if distilled else max(1.0, guidance_scale)
    told, arguments = None, {}
    for i, t in enumerate(start.timesteps):
        with torch.inference_mode():
            now = conditionings.at(i // scheduler.order)
            if now is not told:
                told, arguments = now, _unet_arguments(pipe, family, now, latents, guidance_scale)
            output = _predict(pipe, scheduler, start, told.weights, arguments, scale, latents, t)
            level = samplers.noise_level(sampler, scheduler, t, start.begin + i)
            x0 = level.x0(output, latents)
            if start.mask is not None:
                # x0 is what is put back, not x_t: a multistep solver's history stays consistent that way.
                x0 = _keep(start, x0, (i + 1) / count)
                output = level.output(x0, latents)
            latents = scheduler.step(output, t, latents, **kwargs, return_dict=False)[0]
            if start.mask is not None and i == count - 1:
                latents = _keep(start, latents, 1.0)
        yield Step(i + 1, count, latents, x0)


def _predict(pipe: Any, scheduler: Any, start: Start, weights: tuple[float, ...], arguments: dict[str, Any],
             guidance_scale: float, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """One guided model call: (b, 4, h, w) -> the same. Ho & Salimans 2022 (arXiv:2207.12598), stock form.

    weights: of the prompts that stand after the unconditional one; none without guidance. Several are composed as in
    Liu et al. 2022 (arXiv:2206.01714) eq. 11.
    """
    rows = 1 + len(weights)
    x = scheduler.scale_model_input(torch.cat([latents] * rows), t)
    if start.extra is not None:
        x = torch.cat([x, torch.cat([start.extra] * rows)], 1)
    output = pipe.unet(x, t, **arguments, return_dict=False)[0]
    if not weights:
        return output
    uncond, *conds = output.chunk(rows)
    directions = [weight * (cond - uncond) for weight, cond in zip(weights, conds, strict=True)]
    return uncond + guidance_scale * sum(directions[1:], directions[0])


def _keep(start: Start, x: torch.Tensor, progress: float) -> torch.Tensor:
    """Put the original back where the mask keeps it.

    A soft mask opens with the steps: a place of weight m is free for the last m of them (Levin & Fried 2023,
    arXiv:2306.00950), so that grey changes less than white.
    """
    weight = (start.mask > 1 - progress).to(x.dtype) if start.soft else start.mask
    return start.original * (1 - weight) + x * weight


def _unet_arguments(pipe: Any, family: Family, conditioning: Conditioning, latents: torch.Tensor,
                    guidance_scale: float) -> dict[str, Any]:
    """The keyword arguments of the model calls that share a conditioning."""
    size, device = latents.shape[0], latents.device
    embeds, pooled = conditioning.for_batch(size)
    arguments: dict[str, Any] = {"encoder_hidden_states": embeds.to(device, latents.dtype)}
    if pipe.unet.config.time_cond_proj_dim is not None:  # guidance-distilled models (LCM) take it as an embedding
        w = torch.full((embeds.shape[0],), guidance_scale - 1)
        arguments["timestep_cond"] = pipe.get_guidance_scale_embedding(
            w, embedding_dim=pipe.unet.config.time_cond_proj_dim).to(device, latents.dtype)
    if family.pooled is not None:
        height, width = (side * LATENT_PX for side in latents.shape[-2:])
        ids = torch.tensor([[height, width, 0, 0, height, width]], dtype=embeds.dtype)
        arguments["added_cond_kwargs"] = {"text_embeds": pooled.to(device, latents.dtype),
                                          "time_ids": ids.repeat(embeds.shape[0], 1).to(device)}
    return arguments


def check_concrete(request: Request) -> None:
    """Raise RequestError for a field that is still None: `Studio.resolve` was skipped."""
    for name in ("sampler", "schedule", "steps", "guidance_scale", "width", "height"):
        if getattr(request, name) is None:
            raise RequestError(f"{type(request).model_fields[name].title}: not set.", name)
