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
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..control import Control
from ..errors import ModelError, RequestError, StudioError
from ..events import Notice
from . import data, draw, hub, sets
from .events import Trained, Update
from .latent import PREDICTIONS
from .learner import DIVERGED, MAX_GRADIENT, loss_of
from .requests import FineTune
from .sampling import ddim, denoiser_of, last
from .schedules import Schedule

LOGIN_S = 10
SHOWN_PX, COLUMNS = 96, 4  # about the side of a picture on a sheet
CARD = """---
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags: [diffusers, unconditional-image-generation]
---
# {title}

An unconditional diffusion model: {begun}, fine-tuned with Atelier.
Learned from {pictures} pictures of {side} px in {updates} updates (batch size {batch}, learning rate {rate:g}).

| before | after, from the same noise |
|---|---|
| ![before](before.png) | ![after](after.png) |

    from diffusers import DDPMPipeline
    image = DDPMPipeline.from_pretrained("{title}")().images[0]
"""


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
    board = _weights_and_biases(request, folder.parent) if request.wandb else nullcontext()
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
    card = CARD.format(title=request.push_to or folder.name, begun=asked if from_hub else source.name,
                       updates=len(losses), pictures=len(tiny), side=pipe.unet.config.sample_size,
                       batch=request.batch_size * request.accumulation, rate=request.learning_rate)
    save(pipe, folder, card, (before, after))
    yield from map(Notice, advice(losses, request))
    if request.push_to:
        yield Notice(f"Uploaded to {push(folder, request.push_to, request.token)}.")
    yield Trained(request.epochs, len(losses), control.stop.is_set())


def load(folder: Path, device: torch.device) -> Any:
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


def sample(pipe: Any, seeds: Sequence[int], steps: int) -> Tensor:
    """Pictures (b, c, h, w) in -1..1 with DDIM, one seed each."""
    config, unet = pipe.unet.config, pipe.unet.eval()
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    size = config.in_channels, config.sample_size, config.sample_size
    noise = torch.stack([torch.randn(size, generator=one) for one in generators]).to(unet.device, unet.dtype)
    denoiser = denoiser_of(_plain(unet), PREDICTIONS[pipe.scheduler.config.prediction_type])
    return last(ddim(denoiser, schedule_of(pipe), noise, generators, steps)).x


def schedule_of(pipe: Any) -> Schedule:
    """The noise levels that a pipeline was trained with."""
    abar = pipe.scheduler.alphas_cumprod.double().cpu()
    return Schedule("the model's own", abar.sqrt(), (1 - abar).sqrt())


def save(pipe: Any, folder: Path, card: str, drawn: Sequence[Sampled] = ()) -> None:
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


def push(folder: Path, repository: str, token: str) -> str:
    """Upload a saved pipeline with its model card to the Hugging Face hub; returns its address."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        repository = api.create_repo(repository, exist_ok=True, private=True).repo_id
        return str(api.upload_folder(folder_path=folder, repo_id=repository))
    except Exception as error:  # the network's and the hub's errors are of many kinds
        raise StudioError(f"The result is saved here, but {repository} on the hub did not take it. May this token "
                          "write there, and is the network up?") from error


def _weights_and_biases(request: FineTune, folder: Path) -> Any:
    """A run of W&B, as a context. Raises RequestError where its package is not installed or knows no account."""
    try:
        import wandb
    except ImportError:
        raise RequestError("Weights & Biases: its package is not installed: pip install wandb", "wandb") from None
    folder.mkdir(parents=True, exist_ok=True)
    config = request.model_dump(exclude={"token", "output"})
    patience = wandb.Settings(login_timeout=LOGIN_S)  # it may ask for a key on the terminal, and wait
    try:
        return wandb.init(project="atelier-lab", dir=folder, config=config, settings=patience)
    except wandb.Error as error:
        raise RequestError("Weights & Biases: no run could be begun there. Log in once with: wandb login",
                           "wandb") from error


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


def _train(pipe: Any, pixels: Tensor, request: FineTune, control: Control) -> Iterator[Update]:
    network, schedule, device = _plain(pipe.unet.train()), schedule_of(pipe), pipe.unet.device
    prediction = PREDICTIONS[pipe.scheduler.config.prediction_type]
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


def _plain(unet: nn.Module) -> Any:
    """diffusers' UNet2DModel with the lab's signature."""
    return lambda x, t, context: unet(x, t, return_dict=False)[0]


def _sampled(when: str, pipe: Any, request: FineTune) -> Sampled:
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
