"""Go on training an unconditional DDPMPipeline on pictures of one's own, and see what it drew before and after.

The loss is that of train.py; DDIM takes the place of DDPM for sampling, because both walk the same trained model and
DDIM needs a tenth of the steps (Song et al. 2021, arXiv:2010.02502, sec. 5.1).
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor, nn

from ..diffusion.noise_schedules import Schedule
from ..errors import ModelError, RequestError, StudioError
from ..events import Notice
from ..queue.control import Control
from . import data, draw, hub, publish, sets
from .events import Trained, Update
from .learner import DIVERGED, MAX_GRADIENT, loss_of
from .requests import FineTune
from .sampling import Denoiser, ddim, denoiser_of, last

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

SHOWN_PX, COLUMNS = 96, 4  # about the side of a picture on a sheet


@dataclass(frozen=True)
class Sampled:
    """What the model draws from the same noise. when: "before" or "after". sheet: all of it, enlarged."""

    when: str
    images: tuple[Image.Image, ...]
    sheet: Image.Image


Event = Sampled | Update | Notice | Trained


def run(request: FineTune, control: Control | None = None) -> Iterator[Event]:
    """Sample, train, sample, and save a diffusers pipeline. Stopped, it saves what it has learned so far."""
    control, folder = control or Control(), Path(request.output)
    if folder.exists() and any(folder.iterdir()):
        raise RequestError("Output: this folder is not empty. Choose another one.", "output")
    if request.push_to and not request.token.strip():
        raise RequestError("Token: pushing to the hub needs an access token with the right to write.", "token")
    asked = request.model.removeprefix(data.HUB)
    from_hub = asked != request.model
    source = hub.model_folder(asked, request.token.strip()) if from_hub else Path(asked)
    pipe = load(source, draw.device_of(request.device))
    tiny = sets.load(request.data, pipe.unet.config.sample_size)
    yield from map(Notice, tiny.notices)
    board = publish.weights_and_biases(request, folder.parent) if request.wandb else nullcontext()
    pixels = _with_channels(tiny.pixels, pipe.unet.config.in_channels)
    before = _sampled("before", pipe, request)
    yield before
    losses: list[float] = []
    with board as log:
        for update in _train(pipe, pixels, request, control):
            losses.append(update.loss)
            if log is not None:
                log.log({"loss": update.loss}, step=update.step)
            yield update
    after = _sampled("after", pipe, request)
    yield after
    card = publish.CARD.format(
        title=request.push_to or folder.name, begun=asked if from_hub else source.name, updates=len(losses),
        pictures=len(tiny), side=pipe.unet.config.sample_size, batch=request.batch_size * request.accumulation,
        rate=request.learning_rate)
    save(pipe, folder, card, (before, after))
    yield from map(Notice, advice(losses, request))
    if request.push_to:
        yield Notice(f"Uploaded to {publish.push(folder, request.push_to, request.token)}.")
    yield Trained(request.epochs, len(losses), control.stop.is_set())


def load(folder: Path, device: torch.device) -> DiffusionPipeline:
    """A DDPMPipeline from a folder, safetensors only. Raises ModelError for anything else."""
    from diffusers import DDPMPipeline

    if not (folder / "model_index.json").is_file():
        raise ModelError("Model: this is not a diffusers folder (there is no model_index.json in it).")
    try:
        pipe = DDPMPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True,
                                            dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(device)
    except Exception as error:  # diffusers raises many kinds for damaged folders
        raise ModelError("Model: this folder cannot be read as a DDPMPipeline with safetensors weights.") from error


def sample(pipe: DiffusionPipeline, seeds: Sequence[int], steps: int) -> Tensor:
    """Pictures (b, c, h, w) in -1..1 with DDIM, one seed each."""
    noise, generators = noise_of(pipe, seeds)
    return last(ddim(denoiser_for(pipe), schedule_of(pipe), noise, generators, steps)).x


def noise_of(pipe: DiffusionPipeline, seeds: Sequence[int]) -> tuple[Tensor, list[torch.Generator]]:
    """Unit noise (b, c, h, w) for a pipeline, one seed a picture, and the generators it was drawn from."""
    config, unet = pipe.unet.config, pipe.unet
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    size = config.in_channels, config.sample_size, config.sample_size
    noise = torch.stack([torch.randn(size, generator=one) for one in generators])
    return noise.to(unet.device, unet.dtype), generators


def denoiser_for(pipe: DiffusionPipeline) -> Denoiser:
    """A pipeline's U-Net as the lab's samplers and guidances ask it."""
    return denoiser_of(_plain(pipe.unet.eval()), pipe.scheduler.config.prediction_type)


def schedule_of(pipe: DiffusionPipeline) -> Schedule:
    """The noise levels that a pipeline was trained with."""
    abar = pipe.scheduler.alphas_cumprod.double().cpu()
    return Schedule("the model's own", abar.sqrt(), (1 - abar).sqrt())


def save(pipe: DiffusionPipeline, folder: Path, card: str, drawn: Sequence[Sampled] = ()) -> None:
    """Write the pipeline, its model card and what it drew, whole or not at all."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    pipe.save_pretrained(part)
    (part / "README.md").write_text(card, "utf-8")
    for one in drawn:
        one.sheet.save(part / f"{one.when}.png")
    if folder.exists():
        folder.rmdir()
    part.rename(folder)


def advice(losses: Sequence[float], request: FineTune) -> tuple[str, ...]:
    """What the loss curve tells of learning rate and batch size; nothing for curves too short to tell.

    The first and the last third are compared, in units of how much a mean of so many updates wavers.
    """
    third = len(losses) // 3
    if third < 5:
        return ()
    first, end = torch.tensor(losses[:third]), torch.tensor(losses[-third:])
    wavering = float(((first.var() + end.var()) / third) ** 0.5)
    fall = float(first.mean() - end.mean())
    told = []
    if fall < -3 * wavering:
        told.append(f"The loss rose. A learning rate below {request.learning_rate:g} is safer.")
    elif abs(fall) <= 3 * wavering:
        told.append("The loss neither fell nor rose beyond its wavering. More epochs, or a learning rate a few times "
                    f"above {request.learning_rate:g}, would show more.")
    if float(end.std()) > 0.5 * float(end.mean()):
        told.append(f"The loss wavers by more than half of its value. A larger batch than "
                    f"{request.batch_size * request.accumulation} pictures an update makes it steadier.")
    return tuple(told)


def _train(pipe: DiffusionPipeline, pixels: Tensor, request: FineTune, control: Control) -> Iterator[Update]:
    network, schedule, device = _plain(pipe.unet.train()), schedule_of(pipe), pipe.unet.device
    prediction = pipe.scheduler.config.prediction_type
    generator = torch.Generator("cpu").manual_seed(request.seed)
    optimizer = torch.optim.AdamW(pipe.unet.parameters(), request.learning_rate)
    together = request.batch_size * request.accumulation
    updates, step, begin = request.epochs * math.ceil(len(pixels) / together), 0, perf_counter()
    for epoch in range(request.epochs):
        for chosen in torch.randperm(len(pixels), generator=generator).split(together):
            if control.stop.is_set():
                return
            total = 0.0
            for batch in chosen.split(request.batch_size):
                loss = loss_of(network, schedule, prediction, "mse", pixels[batch].to(device), None, generator)
                (loss * (len(batch) / len(chosen))).backward()
                total += float(loss.detach()) * len(batch) / len(chosen)
            if not total < DIVERGED:  # NaN compares false
                raise StudioError(f"Training went out of bounds at update {step + 1} (loss {total:.3g}). A learning "
                                  f"rate below {request.learning_rate:g} helps.")
            nn.utils.clip_grad_norm_(pipe.unet.parameters(), MAX_GRADIENT)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            left_s = (updates - step) * (perf_counter() - begin) / step
            yield Update(step, epoch, total, request.learning_rate, left_s)


def _plain(unet: nn.Module) -> nn.Module:
    """diffusers' UNet2DModel with the lab's signature."""
    return lambda x, t, context: unet(x, t, return_dict=False)[0]


def _sampled(when: str, pipe: DiffusionPipeline, request: FineTune) -> Sampled:
    pixels = sample(pipe, [request.seed + i for i in range(request.samples)], request.steps)
    images = tuple(data.to_image(one) for one in pixels)
    enlarge = max(1, SHOWN_PX // images[0].width)
    large = [image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.NEAREST)
             for image in images]
    return Sampled(when, images, draw.sheet(large, COLUMNS))


def _with_channels(pixels: Tensor, channels: int) -> Tensor:
    """Grey to colour or back, for a model of the other kind."""
    if pixels.shape[1] == channels:
        return pixels
    return pixels.mean(1, keepdim=True) if channels == 1 else pixels[:, :1].expand(-1, channels, -1, -1)
