"""What a run computes on its device: an update's gradients and the held-out loss, in parts as small as memory asks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...diffusion.losses import total
from ...errors import OutOfMemory
from ...machine import memory
from ..events import Event, Notice
from ..request import TrainLora
from . import objective
from .attention import written_out
from .base_model import Base
from .batches import Draw, Examples, by_shape, seed_of
from .distributed import Team
from .progress import Progress
from .trainable import Trainee


class Gradients:
    """Gradients of what is trained. The progress that is handed over says how many pictures are computed at once."""

    def __init__(self, base: Base, config: TrainLora, examples: Examples, trainee: Trainee, team: Team):
        self._base, self._config, self._examples, self._trainee, self._team = base, config, examples, trainee, team

    @property
    def update_size(self) -> int:
        """Pictures in an update, over all processes."""
        return self._config.batch_size * self._config.accumulation * self._team.size

    def add(self, indices: Sequence[int], progress: Progress, told: list[Event]) -> Tensor:
        """Add up the gradients of an update; returns this process's share of its loss.

        indices: of the pictures, over all processes. told: gets what had to be changed for the memory, which `progress`
        keeps. Raises OutOfMemory when nothing is left to change.
        """
        mine = self._examples.draw(indices, progress.step, progress.detour)[self._team.rank :: self._team.size]
        while True:
            loss = None
            with memory.attempt() as adding:
                loss = self._parts(mine, progress)
            if not self._team.any(adding.full):
                return loss
            loss = None
            for parameter in self._trainee.parameters:
                parameter.grad = None
            memory.free()
            told.append(self._shrink(progress))

    def held_out(self, weights: dict[str, Tensor] | None, progress: Progress) -> float | None:
        """The held-out loss of weights, or of those in training; None when no picture is held out."""
        draws = self._examples.held_out()
        if not draws:
            return None
        self._trainee.set_training(False)
        loss = torch.zeros((), device=self._base.device)
        with torch.no_grad(), written_out(self._base), self._trainee.showing(weights):
            for part in by_shape(draws, progress.micro_batch):
                loss += objective.errors(self._base, self._config, self._examples.batch(part)).sum()
        return float(loss) / len(draws)

    def _parts(self, draws: list[Draw], progress: Progress) -> Tensor:
        loss = torch.zeros((), device=self._base.device)
        self._trainee.set_training(True)
        self._set_checkpointing(progress.checkpointing)
        for number, part in enumerate(by_shape(draws, progress.micro_batch)):
            torch.manual_seed(seed_of(self._config.seed, progress.step, progress.detour, self._team.rank,
                                      number))  # for dropout
            batch = self._examples.batch(part)
            with written_out(self._base):
                share = total(objective.errors(self._base, self._config, batch), batch.weights, self.update_size)
                share.backward()
            loss += share.detach()
        return loss

    def _shrink(self, progress: Progress) -> Notice:
        """Make the next try smaller: half the micro-batch, then gradient checkpointing. Raises OutOfMemory."""
        if progress.micro_batch > 1:
            progress.micro_batch = (progress.micro_batch + 1) // 2
            return Notice(progress.step, f"Not enough memory: {progress.micro_batch} pictures at once from here on, in "
                                         "more parts. The updates stay the same.")
        if not progress.checkpointing and self._config.gradient_checkpointing == "auto":
            progress.checkpointing = True
            return Notice(progress.step, "Not enough memory: gradient checkpointing is on from here on; it is slower.")
        raise OutOfMemory(f"Not enough memory for one picture at {self._config.resolution} px. Lower the resolution or "
                          "the rank, or train fewer layers.")

    def _set_checkpointing(self, on: bool) -> None:
        unet = self._base.unet
        if unet.is_gradient_checkpointing != on:
            (unet.enable_gradient_checkpointing if on else unet.disable_gradient_checkpointing)()
