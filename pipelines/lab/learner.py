"""One step of training after the other: the loss, the optimizer, the averaged weights, and all that a resume needs."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion import noise_schedules
from ..diffusion.noise_level import Prediction
from ..diffusion.noise_schedules import Schedule, noised
from ..errors import RequestError, StudioError
from . import checkpoints, data, networks
from .latentset import Frozen
from .requests import Train

WARMUP = 50  # updates in which the learning rate rises
MAX_GRADIENT = 1.0
DIVERGED = 10.0  # pictures lie in -1..1, so the loss of a network that says nothing is about 1
HELD_OUT_PICTURES = 256
LOSSES = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.smooth_l1_loss}


def loss_of(network: nn.Module, schedule: Schedule, prediction: str, kind: str, x0: Tensor, context: Tensor | None,
            generator: torch.Generator) -> Tensor:
    """How wrong the network is about pictures noised to random timesteps: DDPM eq. 14, for any form of prediction.

    x0: (b, c, h, w). context: (b, classes) or None. generator: on the CPU, whatever the device, so that a run is the
    same on all of them.
    """
    t = torch.randint(len(schedule), (len(x0),), generator=generator)
    noise = torch.randn(x0.shape, generator=generator).to(x0)
    x_t = noised(schedule, x0, noise, t)
    wanted = Prediction(x_t, x0, noise, *schedule.at(t, x0)).form(prediction)
    return LOSSES[kind](network(x_t, t.to(x0.device), context).float(), wanted)


def learning_rate(request: Train, step: int, progress: float) -> float:
    """A short rise, then the decay asked for, to 0 at progress 1 (cosine: arXiv:1608.03983, eq. 5)."""
    fall = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 + 0.5 * math.cos(math.pi * progress)}[request.decay]
    return request.learning_rate * min(1.0, (step + 1) / WARMUP) * fall


class Learner:
    """A network on its way. epoch: epochs done. step: updates done. position: batches done of the epoch begun."""

    def __init__(self, request: Train, tiny: data.TinySet, device: torch.device, parts: Frozen | None = None):
        if request.precision == "float16" and device.type != "cuda":
            raise RequestError("Precision: float16 needs a CUDA card. Take bfloat16 or float32.", "precision")
        self.request, self.tiny, self.device, self.parts = request, tiny, device, parts
        kind = "text" if request.recipe == "latents" else request.network
        self.shape = networks.Shape(kind, tiny.pixels.shape[1], tiny.context_width, request.width,
                                    request.levels or fitting_levels(tiny.side))
        if tiny.side % self.shape.multiple:
            what = "latents" if request.recipe == "latents" else "px"
            raise RequestError(f"Levels: {self.shape.levels} do not fit pictures of {tiny.side} {what}, which would "
                               f"have to be a multiple of {self.shape.multiple}.", "levels")
        self.schedule = noise_schedules.make(request.schedule, request.timesteps)
        self.generator = torch.Generator("cpu").manual_seed(request.seed)
        self.taught, self.held_out = data.split(len(tiny), request.validation, self.generator)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            self.network = networks.build(self.shape).to(device)
        self.averaged = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), request.learning_rate, weight_decay=0.0)
        self.scaler = torch.amp.GradScaler(device.type, enabled=request.precision == "float16")
        self.order, self.losses = self._shuffled(), []
        self.epoch = self.step = self.position = 0
        self.elapsed_s = self.learning_rate = 0.0

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    @property
    def batches_per_epoch(self) -> int:
        return math.ceil(len(self.taught) / self.request.batch_size)

    @property
    def updates_per_epoch(self) -> int:
        return math.ceil(self.batches_per_epoch / self.request.accumulation)

    def update(self, progress: float) -> float:
        """One step of the optimizer over `accumulation` batches; returns the loss. Raises StudioError for NaN."""
        self.learning_rate = learning_rate(self.request, self.step, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        end = min(self.position + self.request.accumulation, self.batches_per_epoch)
        batches = self.order.split(self.request.batch_size)[self.position:end]
        pictures = sum(map(len, batches))
        total = 0.0
        for indices in batches:
            with torch.autocast(self.device.type, getattr(torch, self.request.precision),
                                enabled=self.request.precision != "float32"):
                loss = self._loss(self.network, indices, self.generator) * (len(indices) / pictures)
            self.scaler.scale(loss).backward()
            total += float(loss.detach())
        if not total < DIVERGED:  # NaN compares false
            raise StudioError(f"Training went out of bounds at update {self.step + 1} (loss {total:.3g}). A learning "
                              f"rate below {self.request.learning_rate:g} or a larger batch helps; the last finished "
                              "epoch is kept.")
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._average()
        self.losses.append(total)
        self.step += 1
        self.position = end % self.batches_per_epoch
        return total

    def close_epoch(self) -> float:
        """Shuffle for the next epoch; returns the mean loss of the one that is over."""
        self.epoch += 1
        mean = sum(self.losses) / len(self.losses)
        self.order, self.losses = self._shuffled(), []
        return mean

    def held_out_loss(self) -> float | None:
        """Loss of the averaged network on held-out pictures, always at the same noise and timesteps."""
        if not len(self.held_out):
            return None
        generator = torch.Generator("cpu").manual_seed(self.request.seed)
        with torch.no_grad():
            return float(self._loss(self.averaged, self.held_out[:HELD_OUT_PICTURES], generator, dropout=False))

    def model(self) -> checkpoints.Model:
        """The averaged network, to sample with."""
        return checkpoints.Model(self.averaged, self.shape, self.schedule, self.request.prediction, self.tiny.classes,
                                 self.tiny.side, self.tiny.nothing, self.parts)

    def state(self) -> dict[str, Any]:
        """Everything that going on needs."""
        request = self.request
        return {
            "request": request.model_dump(exclude={"token"}), "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(), "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(), "random": self.generator.get_state(), "order": self.order,
            "losses": self.losses, "epoch": self.epoch, "step": self.step, "position": self.position,
            "elapsed_s": self.elapsed_s, "pictures": self._fingerprint(),
            "model": checkpoints.described(self.shape, request.schedule, request.timesteps, request.prediction,
                                           self.tiny.classes, self.tiny.side,
                                           None if self.parts is None else self.parts.name)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a saved state. Raises RequestError when the pictures are not those it was made with."""
        if state["pictures"] != self._fingerprint():
            raise RequestError("Data: the pictures have changed since this run was begun.", "data")
        for name in ("network", "averaged", "optimizer", "scaler"):
            getattr(self, name).load_state_dict(state[name])
        for name in ("order", "losses", "epoch", "step", "position", "elapsed_s"):
            setattr(self, name, state[name])
        self.generator.set_state(state["random"])

    def _loss(self, network: nn.Module, indices: Tensor, generator: torch.Generator, dropout: bool = True) -> Tensor:
        context = self.tiny.contexts(indices)
        if context is not None and dropout:  # arXiv:2207.12598, algorithm 1
            keep = torch.rand(len(indices), generator=generator) >= self.request.class_dropout
            context = torch.where(keep.view(-1, *[1] * (context.dim() - 1)), context, self.tiny.nothing)
        context = None if context is None else context.to(self.device)
        x0 = self.tiny.pixels[indices].to(self.device)
        return loss_of(network, self.schedule, self.request.prediction, self.request.loss, x0, context, generator)

    def _fingerprint(self) -> list[float]:
        return [float(len(self.tiny)), float(self.tiny.pixels.double().sum())]

    def _shuffled(self) -> Tensor:
        return self.taught[torch.randperm(len(self.taught), generator=self.generator)]

    @torch.no_grad()
    def _average(self) -> None:
        """averaged <- d averaged + (1 - d) weights; d begins small, so that the first weights are soon forgotten."""
        decay = min(self.request.ema, (1 + self.step) / (10 + self.step))
        for mean, weight in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)


def fitting_levels(side: int) -> int:
    """Two levels for 8 px, three from 16 px on: the coarsest keeps at least 4 px."""
    return 2 if side < 16 else 3
