"""The training loop: updates, measurements, saves, and what to do when something goes wrong.

A state is complete: weights, optimizer, average and counters; random numbers and the order of the pictures follow from
seed and step. So N steps straight equal a run that was killed and taken up again, bit for bit on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from ...errors import OutOfMemory, StudioError
from ...machine import memory
from ...models.optimizer_state import state_bytes
from ..events import CheckpointSaved, Event, HeldOut, Notice, Skipped, StepDone
from ..numbers import optimizers
from ..numbers.base_model import Base
from ..numbers.batches import Examples
from ..numbers.distributed import Team
from ..numbers.gradients import Gradients
from ..numbers.progress import WORDS, Hooks, Progress
from ..numbers.trainable import Average, Trainee
from ..request import TrainLora
from .state import Checkpoints

BAD_IN_A_ROW = 3  # updates that are not finite before the run goes back to the last state
MAX_ROLLBACKS = 2
SMOOTHING = 0.1


class Loop:
    """One run on one model. Make it, `resume` if there is a state, then iterate over `train`.

    saved_step: of the last state that is safely on disk, -1 before there is one. aside_s: what samples and
    measurements are expected to take, in seconds for each step.
    """

    def __init__(self, base: Base, config: TrainLora, examples: Examples, trainee: Trainee, checkpoints: Checkpoints,
                 hooks: Hooks, team: Team | None = None):
        self.base, self.config, self.examples, self.trainee = base, config, examples, trainee
        self.checkpoints, self._hooks, self.team = checkpoints, hooks, team or Team()
        self.average = Average(config.ema, trainee)
        self.optimizer = optimizers.make(config, trainee.groups)
        self.progress = Progress(micro_batch=config.batch_size, checkpointing=config.gradient_checkpointing == "on")
        self._gradients = Gradients(base, config, examples, trainee, self.team)
        self._start = None if config.method == "full" else {k: v.clone() for k, v in trainee.weights().items()}
        self._saved_at, self._tried_step, self.saved_step, self.aside_s = monotonic(), -1, -1, 0.0
        self._updates = self._order()

    # States

    def resume(self) -> int:
        """Take the newest whole state up; returns its step, 0 when there is none."""
        found = self.checkpoints.newest()
        if found is not None:
            self._restore(found[1])
        return self.progress.step

    def _tree(self) -> dict[str, object]:
        return {"weights": self.trainee.weights(), "average": self.average.weights,
                "optimizer": self.optimizer.state_dict(), "progress": asdict(self.progress)}

    def _restore(self, tree: dict[str, Any]) -> None:
        """Take a state over that lies in host memory: a card has no room for two of them."""
        self.trainee.put(tree["weights"])
        if tree["average"] is not None:
            self.average.put(tree["average"])
        self.optimizer.state.clear()
        memory.free()
        self.optimizer.load_state_dict(tree["optimizer"])
        self.progress = Progress(**tree["progress"])
        self.saved_step = self.progress.step
        self._updates = self._order()

    def save(self) -> Iterator[Event]:
        """Save the exact state and the usable weights. What the disk refuses is said, and the run goes on.

        Weights that are not finite are never saved: the run goes back instead.
        """
        self._saved_at = monotonic()
        if not all(bool(tensor.isfinite().all()) for tensor in self.trainee.weights().values()):
            yield from self._roll_back()
            return
        self._tried_step = self.progress.step
        if not self.team.leads:
            return
        step, name = self.progress.step, []

        def export(folder: Path) -> None:
            with self.trainee.showing(self.average.weights):
                name.append(self._hooks.export(folder, step))

        try:
            keep = [self.progress.best_step] if self.config.keep_best else []
            folder = self.checkpoints.save(step, self._tree(), export, keep)
        except OSError as error:
            yield Notice(step, f"The state could not be saved: {error.strerror or error}. Training goes on, and what "
                               "was saved before is intact.")
        else:
            self.saved_step = step
            yield CheckpointSaved(step, f"checkpoints/{folder.name}", f"checkpoints/{folder.name}/{name[0]}")

    # The run

    def train(self) -> Iterator[Event]:
        """Run to the end or until asked to stop; the generator's return value says how: finished, stopped, paused."""
        config, first, step_s = self.config, self.progress.step, 0.0
        began, busy_s = monotonic(), 0.0
        if first == 0:
            yield from self._measure()
        while self.progress.step < config.steps:
            words = self._words()
            if "sample" in words:
                yield from self._sample()
            if "stop" in words or "pause" in words:
                yield from self.save()
                return "paused" if "pause" in words else "stopped"
            since, scale = monotonic(), optimizers.rate(config, self.progress.step) * self.progress.rate_scale
            told: list[Event] = []
            try:
                loss, norm = self._update(next(self._updates), scale, told)
            except OutOfMemory:
                yield from told
                yield from self.save()
                raise
            yield from told
            self.progress.step += 1
            step = self.progress.step
            if not math.isfinite(loss + norm):
                yield Skipped(step, self.progress.skipped)
                if self.progress.bad_in_a_row >= BAD_IN_A_ROW:
                    yield from self._roll_back()
                continue
            took = monotonic() - since
            busy_s += took
            step_s = took if step - first < 3 else (1 - SMOOTHING) * step_s + SMOOTHING * took
            share = (step - first) / (config.steps - first)  # by which what was seen counts more than the forecast
            aside_s = self.aside_s + share * ((monotonic() - began - busy_s) / (step - first) - self.aside_s)
            left = (step_s + aside_s) * (config.steps - step)
            yield StepDone(step, config.steps, loss, config.learning_rate * scale, norm, 1 / max(step_s, 1e-9), left)
            if step % config.validate_every == 0 or step == config.steps:
                yield from self._measure()
            if config.sample_every and (step % config.sample_every == 0 or step == config.steps):
                yield from self._sample()
            best = config.keep_best and self.progress.best_step == step
            if best or "save" in words or self._due(step):
                yield from self.save()
            if config.early_stop and self.progress.worse >= config.early_stop:
                yield Notice(step, f"The held-out loss did not fall {self.progress.worse} times: ended early.")
                break
        if self._tried_step != self.progress.step:
            yield from self.save()
        return "finished"

    def rehearse(self, *, largest: bool = False) -> Iterator[Event]:
        """Compute the next update's gradients and throw them away. largest: of one picture of the largest size."""
        trained, told = self.examples.trained, []
        big = max(range(len(trained)), key=lambda i: trained[i].bucket[0] * trained[i].bucket[1])
        indices = [big] * self.team.size if largest else next(self._order())
        self._gradients.add(indices, self.progress, told).item()
        self.optimizer.zero_grad(set_to_none=True)
        yield from told

    def _order(self) -> Iterator[list[int]]:
        return self.examples.order(self._gradients.update_size, self.progress.step)

    def _update(self, indices: list[int], rate: float, told: list[Event]) -> tuple[float, float]:
        """One update: (loss, gradient norm before clipping). told: gets what had to be changed."""
        loss = self._gradients.add(indices, self.progress, told)
        parameters = [parameter for parameter in self.trainee.parameters if parameter.grad is not None]
        self.team.sum([loss, *(parameter.grad for parameter in parameters)])
        longest = self.config.max_grad_norm or math.inf
        norm = torch.nn.utils.clip_grad_norm_(parameters, longest)
        value, length = torch.stack([loss, norm.to(loss)]).tolist()  # the one time the host waits for the device
        if math.isfinite(value + length):
            for group in self.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate
            self._step()
            self.average.update(self.progress.step)
            self.progress.bad_in_a_row = 0
        else:
            self.progress.skipped += 1
            self.progress.bad_in_a_row += 1
        self.optimizer.zero_grad(set_to_none=True)
        return value, length

    def _step(self) -> None:
        """Let the optimizer take its step. Raises OutOfMemory when its states, made by the first one, find no room."""
        with memory.attempt() as stepping:
            self.optimizer.step()
        if stepping.full:
            self.optimizer.zero_grad(set_to_none=True)
            memory.free()
            needed = state_bytes(self.config.optimizer, self.trainee.parameters)
            raise OutOfMemory(f"Not enough memory for what the optimizer {self.config.optimizer} keeps, "
                              f"{needed / 1e9:.1f} GB. Take the optimizer adafactor, the method lora or a lower rank.")

    def _measure(self) -> Iterator[Event]:
        """The held-out loss, when pictures are held out."""
        progress = self.progress
        loss = self._gradients.held_out(self.average.weights, progress)
        if loss is None:
            return
        best = progress.best_loss is None or loss < progress.best_loss
        if best:
            progress.best_loss, progress.best_step = loss, progress.step
        progress.worse = 0 if best else progress.worse + 1
        yield HeldOut(progress.step, loss, best)

    def _sample(self) -> Iterator[Event]:
        if self.team.leads:
            self.trainee.set_training(False)
            with self.trainee.showing(self.average.weights):
                yield from self._hooks.sample(self.progress.step)

    # Trouble

    def _roll_back(self) -> Iterator[Event]:
        """Go back to the last state with half the learning rate. Raises StudioError when that was done before."""
        bad = self.progress
        if bad.detour >= MAX_ROLLBACKS:
            raise StudioError("The loss is not a number again and again. Lower the learning rate, or choose precision "
                              "float32. The saved states are good.")
        found = self.checkpoints.newest()
        if found is not None:
            self._restore(found[1])
        elif self._start is not None:
            self.trainee.put(self._start)
            self.average.restart()
            self.optimizer = optimizers.make(self.config, self.trainee.groups)
            self.progress = Progress(micro_batch=bad.micro_batch, checkpointing=bad.checkpointing)
            self._updates = self._order()
        else:
            raise StudioError("The loss is not a number, and no state was saved yet. Lower the learning rate.")
        progress = self.progress
        progress.rate_scale, progress.detour = bad.rate_scale / 2, bad.detour + 1
        progress.skipped, progress.bad_in_a_row = bad.skipped, 0
        yield Notice(progress.step, f"The loss or the weights are no numbers any more: back to step {progress.step}, "
                                    "with half the learning rate.")

    def _due(self, step: int) -> bool:
        config = self.config
        by_time = bool(config.save_minutes) and monotonic() - self._saved_at > config.save_minutes * 60
        by_time = bool(self.team.agree(int(by_time)))  # clocks differ, and all must save or none
        return by_time or step == config.steps or bool(config.save_every and step % config.save_every == 0)

    def _words(self) -> list[str]:
        """What was asked for, the same in every process."""
        bits = sum(1 << WORDS.index(word) for word in set(self._hooks.asked()) & set(WORDS)) if self.team.leads else 0
        bits = self.team.agree(bits)
        return [word for i, word in enumerate(WORDS) if bits >> i & 1]
