"""Answers what the lab's pages ask, on a leased pipeline: pictures and tables, saved and told as events."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .. import decode, samplers
from ..control import Control
from ..errors import Cancelled, RequestError, StudioError
from ..events import Event, Notice, Pictured, StepDone, Tabled
from ..families import Family
from ..generate import Pace
from ..images.convert import flatten
from . import attention, autoencoder, filmstrip, schedules, text
from .filmstrip import Frame, Strip
from .latent import LatentState, TextDenoiser, start, walk
from .pages import Autoencoder, Film, LabJob, Noise, Words

POINTS = 100  # of a curve
LOWEST_BETA = 1e-5
LOWEST_SNR_DB, HIGHEST_SNR_DB = -60.0, 60.0
MOST_WORDS = 12  # that get a heat map


@dataclass(frozen=True)
class Scene:
    """What a job works with. native_px: the side of picture that the checkpoint was made for."""

    pipe: Any
    family: Family
    native_px: int
    open_image: Callable[[str], Image.Image]
    control: Control


@dataclass(frozen=True)
class Made:
    """A picture before it is saved. content: a picture, or the bytes of an animated WebP."""

    caption: str
    content: Image.Image | bytes


def run(job: LabJob, scene: Scene, folder: Path) -> Iterator[Event]:
    """Yield a job's events. Pictures go to folder/YYYY-MM-DD. Raises Cancelled after Stop."""
    with closing(ANSWERS[job.page](job.request, scene)) as items:  # what was attached to the model is removed at once
        for item in items:
            if scene.control.stop.is_set():
                raise Cancelled("Stopped.")
            yield Pictured(_save(item, folder, job.page), item.caption) if isinstance(item, Made) else item


def _save(made: Made, folder: Path, page: str) -> Path:
    now = datetime.now()
    day = folder / f"{now:%Y-%m-%d}"
    name = f"{now:%H%M%S}-{page}-{secrets.token_hex(2)}"
    try:
        day.mkdir(parents=True, exist_ok=True)
        if isinstance(made.content, bytes):
            path = day / f"{name}.webp"
            path.write_bytes(made.content)
        else:
            path = day / f"{name}.png"
            made.content.save(path)
    except OSError as error:
        raise StudioError(f"The picture cannot be saved: {error.strerror or 'the disk refuses it'}.") from None
    return path


# --------------------------------------------------------------------------------------------- denoising, step by step
def film(request: Film, scene: Scene) -> Iterator[Event | Made]:
    """One strip a sampler, what they have in common side by side, and the way of each as an animation."""
    strips = [Strip(request.sampler, request.steps)]
    if request.beside != "nothing":
        strips.append(Strip(request.beside, request.beside_steps))
    pace, made = Pace(len(strips)), []
    for number, strip in enumerate(strips, 1):
        pace.images_left = len(strips) - number + 1
        shown: list[Frame] = []
        paint, every = filmstrip.paint_latents(scene.pipe), max(1, round(strip.steps / request.columns))
        states = _states(scene, strip.sampler, strip.steps, request.prompt, request.guidance_scale, request.seed)
        for state in states:
            shown += filmstrip.frames([state], paint, every)
            speed, left = pace.tick(state.step, state.steps, 1)
            yield StepDone(state.step, state.steps, number, len(strips), speed, left, shown[-1].pictures["x0"])
        made.append((strip, shown))
        yield Made(strip.label, filmstrip.sheet(shown))
        yield Made(f"{strip.label}, predicted x0", filmstrip.animated(shown, frame_ms=250))
    if len(made) > 1:
        columns = min(request.columns, *(len(shown) for _, shown in made))
        yield Made("Predicted x0 at the same shares of the way", filmstrip.side_by_side(made, columns=columns))


def _states(scene: Scene, sampler: str, steps: int, prompt: str, guidance_scale: float,
            seed: int) -> Iterator[LatentState]:
    pipe = scene.pipe
    if pipe.unet.config.in_channels != pipe.vae.config.latent_channels:
        raise RequestError("Model: this one repaints pictures and cannot begin with noise alone. Choose another one.",
                           "model")
    scheduler = samplers.make(sampler, "Automatic", dict(pipe.scheduler.config), steps, pipe.unet.device)
    latents, generators = start(pipe, scheduler, scene.native_px, scene.native_px, [seed])
    return walk(TextDenoiser(pipe, scene.family, prompt, guidance_scale=guidance_scale), sampler, scheduler, latents,
                generators)


# --------------------------------------------------------------------------------------------------- noise, schedules
def noise(request: Noise, scene: Scene) -> Iterator[Event | Made]:
    """The curves of all schedules and of the model's own, and the picture with more and more noise."""
    known = {name: schedules.make(name, request.timesteps) for name in schedules.SCHEDULES}
    curves = {**known, "this model's": _own_schedule(scene.pipe.scheduler)}
    yield _curves("log10 beta", curves, lambda schedule: torch.log10(schedule.betas.clamp(min=LOWEST_BETA)))
    yield _curves("alpha-bar", curves, lambda schedule: schedule.alphas_cumprod)
    yield _curves("SNR (dB)", curves, lambda schedule: (10 * torch.log10(schedule.snr.clamp(min=1e-30)))
                  .clamp(LOWEST_SNR_DB, HIGHEST_SNR_DB))
    schedule = known[request.schedule]
    x0 = autoencoder.pixels_of(_opened(scene, request.image, 512))
    eps = torch.randn(x0.shape, generator=torch.Generator("cpu").manual_seed(request.seed))
    for i in range(request.count):
        t = round(i * (len(schedule) - 1) / (request.count - 1))
        x_t = schedules.noised(schedule, x0, eps, torch.tensor([t]))
        abar = float(schedule.alphas_cumprod[t])
        yield Made(f"t = {t}, alpha-bar {abar:.3f}", decode.to_image(x_t))


def _own_schedule(scheduler: Any) -> schedules.Schedule:
    abar = scheduler.alphas_cumprod.double().cpu()
    return schedules.Schedule("this model's", abar.sqrt(), (1 - abar).sqrt())


def _curves(title: str, known: dict[str, schedules.Schedule], value: Callable) -> Tabled:
    """t as a share of the way, so that schedules of any length can be compared."""
    rows = []
    for name, schedule in known.items():
        values, steps = value(schedule), len(schedule)
        for i in range(min(POINTS, steps)):
            t = round(i * (steps - 1) / (min(POINTS, steps) - 1))
            rows.append((round((t + 1) / steps, 4), float(f"{float(values[t]):.5g}"), name))
    return Tabled(title, ("t / T", title, "schedule"), tuple(rows))


# -------------------------------------------------------------------------------------------------------- autoencoder
def examine(request: Autoencoder, scene: Scene) -> Iterator[Event | Made]:
    """The picture, what comes back of it, the difference, and the latents between."""
    found = autoencoder.examine(scene.pipe.vae, _opened(scene, request.image, request.side))
    yield Made("The picture", found.original)
    yield Made("Encoded and decoded", found.image)
    yield Made("Difference, 4 times", found.difference)
    for number, channel in enumerate(found.channels, 1):
        yield Made(f"Latent channel {number}", channel)
    values, kept = 3 * found.original.width * found.original.height, found.latents.numel()
    rows = [("PSNR", f"{found.psnr:.2f} dB"), ("SSIM", f"{found.ssim:.4f}"), ("Numbers in the picture", f"{values:,}"),
            ("Numbers in the latents", f"{kept:,} ({values / kept:.0f} times fewer)")]
    rows += [(f"Channel {number}", f"mean {float(channel.mean()):+.2f}, deviation {float(channel.std()):.2f}")
             for number, channel in enumerate(found.latents[0], 1)]
    yield Tabled("What is kept", ("Measure", "Value"), tuple(rows))


def _opened(scene: Scene, image_id: str, side: int) -> Image.Image:
    """An uploaded picture, shrunk so that its longer side has at most so many pixels."""
    if not image_id:
        raise RequestError("Picture: none was given. Drop, paste or upload one first.", "image")
    image = flatten(scene.open_image(image_id))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


# --------------------------------------------------------------------------------------------------------------- text
def words(request: Words, scene: Scene) -> Iterator[Event | Made]:
    """The prompt's tokens, how near other prompts are, a picture, and where each word is looked at in it."""
    pipe = scene.pipe
    reading = text.read(pipe.tokenizer, request.prompt)
    prompts = [request.prompt, *(line.strip() for line in request.others.splitlines() if line.strip())]
    seen = [text.vectors(pipe.tokenizer, pipe.text_encoder, prompt) for prompt in dict.fromkeys(prompts)]
    yield _tokens(reading, seen[0].norms)
    yield Tabled("Similarity", ("Prompt", *(f"{number}" for number in range(1, len(seen) + 1))),
                 tuple((f"{number}. {one.prompt}", *(f"{float(cosine):.3f}" for cosine in row)) for number, (one, row)
                       in enumerate(zip(seen, text.similarities(seen), strict=True), 1)))
    if reading.cut:
        yield Notice(f"{len(reading.cut)} tokens do not fit into one pass of the text encoder; their words get no map.")
    pace, grain = Pace(1), scene.native_px // autoencoder.GRAIN
    rows = 2 if request.guidance_scale > 1 else 1
    states = _states(scene, "Euler a", request.steps, request.prompt, request.guidance_scale, request.seed)
    with attention.recorded(pipe.unet, grain, grain, rows) as maps:
        for state in states:
            speed, left = pace.tick(state.step, state.steps, 1)
            yield StepDone(state.step, state.steps, 1, 1, speed, left)
    image = decode.decode(pipe, state.latents)[0]
    yield Made("The picture", image)
    yield from _heat_maps(image, maps, reading.pieces)


def _tokens(reading: text.Reading, norms: torch.Tensor) -> Tabled:
    """Padding is one row: it is the same token again and again."""
    rows = [(token.place, token.id, token.piece, token.kind, f"{float(norms[token.place]):.1f}")
            for token in reading.tokens if token.kind != "padding"]
    padding = [token for token in reading.tokens if token.kind == "padding"]
    if padding:
        rows.append((f"{padding[0].place} to {padding[-1].place}", padding[0].id, padding[0].piece, "padding", ""))
    rows += [("", "", piece, "falls off", "") for piece in reading.cut]
    return Tabled("Tokens", ("Place", "Id", "Piece", "Kind", "Length of its vector"), tuple(rows))


def _heat_maps(image: Image.Image, maps: attention.HeatMaps, pieces: Iterable[str]) -> Iterator[Made]:
    found = {word: places for word, places in attention.words_of(list(pieces)).items() if any(map(str.isalnum, word))}
    for word, places in list(found.items())[:MOST_WORDS]:
        yield Made(word, attention.overlay(image, maps.of(places)))


ANSWERS: dict[str, Callable[[Any, Scene], Iterator[Event | Made]]] = {
    "film": film, "noise": noise, "autoencoder": examine, "words": words}
