"""From a concrete request and a leased pipeline to finished pictures: one denoise loop for the three tasks.

`run` is a generator of events. Torch modes are entered once a step and never held across a yield, because a
generator may be resumed and closed by different threads, and the mode would stay on in one of them.
The stock pipelines are the oracle: the same components, scheduler and generators give the same picture.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch

from . import decode, memory, samplers
from .adapters import tags
from .control import Control
from .errors import Cancelled, OutOfMemory, RequestError
from .events import Event, ImageReady, Notice, StepDone
from .families import Family
from .noise import Draws
from .prompts.embed import Conditioning, Conditionings, Embedder
from .prompts.schedule import plan
from .requests import Request, Txt2Img, changed
from .seamless import seamless
from .sources import LATENT_PX, FromLatents, OpenImage, Source, Start, source_of

SMOOTHING = 0.3  # weight of the newest step in the shown speed

# (pipe, family, what the tags ask for) -> a context that has it attached and gives sentences for the person
Adapters = Callable[[Any, Family, Sequence[tags.Use]], AbstractContextManager[tuple[str, ...]]]


@dataclass(frozen=True)
class Batch:
    """Pictures that are made at once: one prompt, one seed (and variation seed) each. first: counted from 1."""

    prompt: str
    seeds: tuple[int, ...]
    variations: tuple[int, ...]
    first: int

    def part(self, start: int, end: int | None = None) -> Batch:
        """Some of its pictures."""
        return Batch(self.prompt, self.seeds[start:end], self.variations[start:end], self.first + start)


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


def no_adapters(pipe: Any, family: Family, uses: Sequence[tags.Use]) -> AbstractContextManager[tuple[str, ...]]:
    """Leave the tags of a prompt without effect, and say so."""
    return nullcontext((f"There are no LoRAs here, so {', '.join(use.name for use in uses)} had no effect.",))


def run(request: Request, pipe: Any, family: Family, open_image: OpenImage, control: Control | None = None,
        adapters: Adapters = no_adapters) -> Iterator[Event]:
    """Make the pictures of a concrete request (no field is None, seed >= 0).

    Yields StepDone, Notice and ImageReady. Picture i uses seed + i with a CPU generator of its own. adapters: attaches
    what a prompt's tags ask for while its pictures are made, and gives sentences about it. Raises RequestError,
    ModelError, OutOfMemory, and Cancelled when stopped. Out of memory splits the batch, then moves what is not
    needed to the host, and only then gives up.
    """
    control = control or Control()
    source = source_of(request, open_image)
    yield from map(Notice, source.notices)
    maker = _Maker(request, pipe, family, source, control, adapters)
    waiting, pace = deque(_batches(request)), maker.pace
    while waiting:
        batch, made, full = waiting.popleft(), 0, False
        try:
            for event in maker.batch(batch):
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
        left = batch.part(made)
        pace.images_left -= made
        if not left.seeds:
            continue
        if len(left.seeds) > 1:
            half = (len(left.seeds) + 1) // 2
            waiting.extendleft([left.part(half), left.part(0, half)])
            yield Notice(f"Not enough memory for {len(left.seeds)} pictures at once; going on with {half}.")
        elif not maker.tight and pipe.unet.device.type != "cpu":
            maker.tight = True
            waiting.appendleft(left)
            yield Notice("Not enough memory; the text encoder and decoder wait in host memory meanwhile.")
        else:
            width, height = memory.smaller_size(request)
            raise OutOfMemory(f"Not enough memory for {request.width}x{request.height} px. "
                              f"Try {width}x{height} px, or fewer pictures at once.")


def _batches(request: Request) -> Iterator[Batch]:
    """Picture i has seed + i; when it is varied, seed and variation seed + i, as AUTOMATIC1111 counts."""
    varied, number = request.variation_strength > 0, 0
    for prompt in request.prompts:
        for _ in range(request.batch_count):
            numbers = range(number, number + request.batch_size)
            seeds = tuple((request.seed + (0 if varied else i)) % 2**32 for i in numbers)
            variations = tuple((request.variation_seed + i) % 2**32 for i in numbers) if varied else ()
            yield Batch(prompt, seeds, variations, number + 1)
            number += request.batch_size


class _Maker:
    """Makes the batches of one request on one pipeline."""

    def __init__(self, request: Request, pipe: Any, family: Family, source: Source, control: Control,
                 adapters: Adapters):
        self._request, self._pipe, self._family, self._source = request, pipe, family, source
        self._control, self._adapters = control, adapters
        self.pace = Pace(request.image_count)
        self.tight = False  # whether what a step does not need waits in host memory
        self._told: set[str] = set()  # prompts whose notices were given

    def batch(self, batch: Batch) -> Iterator[Event]:
        """Denoise and decode one batch; twice for hires fix."""
        request, pipe = self._request, self._pipe
        prompt, uses = tags.extract(batch.prompt)
        tiles = {axis: request.tiling in (axis, "both") for axis in "xy"}
        with ExitStack() as undone:
            undone.enter_context(seamless(pipe.unet, pipe.vae, **tiles))
            if uses:
                lines = undone.enter_context(self._adapters(pipe, self._family, uses))
                yield from map(Notice, lines if batch.prompt not in self._told else ())
                self._told.add(batch.prompt)
            draws = Draws(*(tuple(torch.Generator("cpu").manual_seed(seed) for seed in seeds)
                            for seeds in (batch.seeds, batch.variations)), strength=request.variation_strength)
            latents = yield from self._denoise(batch, prompt, request, self._source, draws)
            source = self._source
            if latents is not None and getattr(request, "hires_scale", 1) > 1:
                second, prompt = _second_pass(request, prompt)
                source = FromLatents(request, latents, lambda one: decode.decode(pipe, one)[0])
                latents = yield from self._denoise(batch, prompt, second, source, draws)
            if latents is not None:
                yield from self._finish(batch, source, latents)

    def _denoise(self, batch: Batch, prompt: str, request: Request, source: Source,
                 draws: Draws) -> Generator[Event, None, torch.Tensor | None]:
        """One pass. Returns the finished latents, or None when it was skipped."""
        pipe, family = self._pipe, self._family
        embedder = Embedder(pipe, family, clip_skip=request.clip_skip)
        guided = request.guidance_scale > 1 and pipe.unet.config.time_cond_proj_dim is None
        prompts = plan(prompt, request.negative_prompt, request.steps, emphasis=request.emphasis)
        conditionings = Conditionings(embedder, prompts, guided=guided or prompts.composed)
        if prompt not in self._told:
            self._told.add(prompt)
            yield from map(Notice, conditionings.notices)
        scheduler = samplers.make(request.sampler, request.schedule, dict(pipe.scheduler.config), request.steps,
                                  pipe.unet.device)
        with torch.inference_mode():
            start = source.start(pipe, scheduler, draws)
        previews = decode.Previews(pipe, family)
        self.pace.restart()
        with ExitStack() as moved:
            if self.tight:
                encoders = [getattr(pipe, encoder) for _, encoder in family.text_encoders]
                moved.enter_context(memory.aside(pipe.vae, *encoders))
            for step in denoise(pipe, family, request.sampler, scheduler, start, conditionings, Guidance.of(request),
                                draws.generators, _sampler_options(request)):
                if self._control.stop.is_set():
                    raise Cancelled("Stopped.")
                if self._control.skip.is_set():
                    self._control.skip.clear()
                    return None
                speed, seconds = self.pace.tick(step.index, step.count, len(batch.seeds))
                preview = previews.draw(step.x0) if step.index < step.count and not self.tight else None
                yield StepDone(step.index, step.count, batch.first, request.image_count, speed, seconds, preview)
        decode.finite_or_raise(step.latents)
        return step.latents

    def _finish(self, batch: Batch, source: Source, latents: torch.Tensor) -> Iterator[Event]:
        """Decode one by one, so that each is ready as soon as possible and fits in memory."""
        for i, one in enumerate(latents.split(1)):
            image, notices = decode.decode(self._pipe, one)
            yield from map(Notice, notices)
            varied = {"variation_seed": batch.variations[i]} if batch.variations else {}
            alone = changed(self._request, prompt=batch.prompt, seed=batch.seeds[i], batch_size=1, batch_count=1,
                            prompt_lines=False, **varied)
            yield ImageReady(source.finish(image), alone, {})


def _second_pass(request: Txt2Img, prompt: str) -> tuple[Txt2Img, str]:
    """The request and the prompt of hires fix's second pass: what is left empty is as in the first."""
    second = changed(request, steps=request.hires_steps or request.steps,
                     sampler=request.hires_sampler or request.sampler,
                     schedule=request.hires_schedule or request.schedule,
                     guidance_scale=request.hires_guidance_scale or request.guidance_scale,
                     negative_prompt=request.hires_negative_prompt or request.negative_prompt)
    return second, tags.extract(request.hires_prompt)[0] or prompt


def _sampler_options(request: Request) -> dict[str, float]:
    """What the request says to samplers that know it."""
    options = {"s_churn": request.s_churn, "s_noise": request.s_noise, "eta": request.eta}
    return {name: value for name, value in options.items() if value not in (None, Request.model_fields[name].default)}


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance. scale: as in diffusers. rescale: 0..1. start, end: shares of the steps it acts in."""

    scale: float
    rescale: float = 0.0
    start: float = 0.0
    end: float = 1.0

    @classmethod
    def of(cls, request: Request) -> Guidance:
        return cls(request.guidance_scale, request.guidance_rescale, request.guidance_start, request.guidance_end)

    def acts(self, step: int, steps: int) -> bool:
        """step: counted from 0."""
        return self.start <= (step + 0.5) / steps <= self.end


def denoise(pipe: Any, family: Family, sampler: str, scheduler: Any, start: Start,
            conditionings: Conditionings | Conditioning, guidance: Guidance, generators: Sequence[torch.Generator],
            options: Mapping[str, float] | None = None) -> Iterator[Step]:
    """Walk from start.latents along start.timesteps, yielding after every model call.

    A second-order solver calls the model twice a step; prompts change with the steps, which count from start.begin.
    options: eta and the like, handed to a scheduler that knows them. The last step's latents are the result, with
    the kept part of a mask put back.
    """
    latents, count = start.latents, len(start.timesteps)
    accepted = inspect.signature(scheduler.step).parameters
    kwargs = {name: value for name, value in {"generator": list(generators), **(options or {})}.items()
              if name in accepted}
    distilled = pipe.unet.config.time_cond_proj_dim is not None  # such a model is told the guidance instead
    if distilled:
        told_scale, guidance = guidance.scale, replace(guidance, scale=1.0)
    else:
        told_scale, guidance = 1.0, replace(guidance, scale=max(1.0, guidance.scale))
    told: tuple[Conditioning, bool] | None = None
    for i, t in enumerate(start.timesteps):
        with torch.inference_mode():
            now = conditionings.at(i // scheduler.order), guidance.acts(i, count)
            if told is None or now[0] is not told[0] or now[1] != told[1]:
                told = now
                conditioning = now[0] if now[1] else _unguided(now[0])
                arguments = _unet_arguments(pipe, family, conditioning, latents, told_scale)
            acting = guidance if now[1] else Guidance(1.0)
            output = _predict(pipe, scheduler, start, conditioning.weights, arguments, acting, latents, t)
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


def _unguided(conditioning: Conditioning) -> Conditioning:
    """Leave the unconditional row out, where a single prompt is the rest."""
    if len(conditioning.weights) != 1:
        return conditioning
    pooled = None if conditioning.pooled is None else conditioning.pooled[1:]
    return Conditioning(conditioning.embeds[1:], pooled)


def _predict(pipe: Any, scheduler: Any, start: Start, weights: tuple[float, ...], arguments: dict[str, Any],
             guidance: Guidance, latents: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
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
    direction = sum(directions[1:], directions[0])
    guided = uncond + guidance.scale * direction
    return _rescaled(guided, uncond + direction, guidance.rescale) if guidance.rescale else guided


def _rescaled(guided: torch.Tensor, cond: torch.Tensor, share: float) -> torch.Tensor:
    """Bring the guided output's spread back to the conditional one's. Lin et al. 2023 (arXiv:2305.08891) eq. 15-16."""
    axes = tuple(range(1, guided.ndim))
    even = guided * (cond.std(axes, keepdim=True) / guided.std(axes, keepdim=True))
    return share * even + (1 - share) * guided


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
