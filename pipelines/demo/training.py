"""What the trainings share: budget, learning rate, averaged weights, and states that survive a kill.

Every random draw of step i comes from a generator seeded with (seed, i), so a state needs no random state and a
resumed run equals an unbroken one: bit for bit when the budget is in steps (with minutes, the learning rate follows
the clock).
"""

from __future__ import annotations

import copy
import hashlib
import io
import math
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn

from .data import write_atomic


def pick_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(device: torch.device):
    """bfloat16 where the hardware multiplies it faster (CUDA, or a CPU with AVX512-BF16 or AMX), else float32."""
    fast = device.type == "cuda" or getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast, cache_enabled=False)


class Draw:
    """The random numbers of one step: .py for choices, .torch for noise; the same for the same (seed, step)."""

    def __init__(self, seed: int, step: int, device: torch.device | str = "cpu"):
        self.py = random.Random(seed * 1_000_003 + step)
        self.torch = torch.Generator(device).manual_seed(self.py.getrandbits(62))


def learning_rate(base: float, step: int, progress: float, warmup: int, hold: float = 0.55) -> float:
    """Rise for `warmup` steps, hold until `hold` of the budget, then fall along a cosine to 1 % of base."""
    rise = min(1.0, (step + 1) / warmup)
    if progress <= hold:
        return base * rise
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - hold) / (1 - hold))))
    return base * rise * (0.01 + 0.99 * fall)


# ------------------------------------------------------------------------------------------------------------- states
def save_state(path: Path, state: dict) -> None:
    """Write a training state atomically, with its checksum behind it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getbuffer()
    write_atomic(path, b"".join((data, hashlib.sha256(data).digest())))


def load_state(path: Path, log=print) -> dict | None:
    """Read a state; None where there is none or it is damaged (which is said)."""
    if not path.exists():
        return None
    data = path.read_bytes()
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        log(f"{path.name}: damaged; starting this stage anew")
        return None
    return torch.load(io.BytesIO(data[:-32]), weights_only=True, map_location="cpu")


def twin(model: nn.Module) -> nn.Module:
    """A copy that shares the weights but collects gradients of its own."""
    copied = copy.deepcopy(model)
    for theirs, ours in zip(copied.parameters(), model.parameters(), strict=False):
        theirs.data = ours.data
    return copied


class Trainer:
    """Trains the parameters of `model` that require gradients, keeps their average, and saves both.

    path: state file. key: text that names what the state depends on; a state under another key is refused.
    minutes or steps: the budget over all runs together, those before a kill included. pace: gives each parameter, by
    name, its share of the learning rate. batch: pictures a step, shared out among `workers`: threads that each hold a
    twin of the model and meet once a step. For small models on a busy CPU that is much faster than many threads in
    each operation, which meet a thousand times a step.
    """

    def __init__(self, path: Path, model: nn.Module, key: str, *, batch: int, lr: float, ema: float, seed: int = 0,
                 workers: int = 1, pace: Callable[[str], float] = lambda name: 1.0,
                 minutes: float | None = None, steps: int | None = None, warmup: int = 200,
                 weight_decay: float = 0.01, save_every_s: float = 120, log: Callable = print):
        self.path, self.model, self.key, self.lr, self.ema_decay, self.seed = path, model, key, lr, ema, seed
        self.minutes, self.steps, self.warmup, self.save_every_s, self.log = minutes, steps, warmup, save_every_s, log
        self.averaged = copy.deepcopy(model).requires_grad_(False).eval()
        paces: dict[float, list[nn.Parameter]] = {}
        for name, p in model.named_parameters():
            if p.requires_grad:
                paces.setdefault(pace(name), []).append(p)
        self.parameters = [p for group in paces.values() for p in group]
        self.optimizer = torch.optim.AdamW([{"params": group, "pace": share} for share, group in paces.items()],
                                           lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)
        self.batch, self.workers = batch, workers
        self.step, self.elapsed_s = 0, 0.0
        if (state := load_state(path, log)) is not None:
            if state["key"] != key:
                raise ValueError(f"{path}: made with other sizes or data; move it away, or go back to its config")
            model.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            if sum(len(g["params"]) for g in state["optimizer"]["param_groups"]) == len(self.parameters):
                self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.elapsed_s = state["step"], state["elapsed_s"]
            log(f"{path.stem}: resumed at step {self.step}, {self.elapsed_s / 60:.1f} minutes")

    @property
    def progress(self) -> float:
        if self.steps is not None:
            return self.step / self.steps
        return self.elapsed_s / 60 / self.minutes if self.minutes else 1.0

    def save(self) -> None:
        save_state(self.path, {"key": self.key, "model": self.model.state_dict(),
                               "averaged": self.averaged.state_dict(), "optimizer": self.optimizer.state_dict(),
                               "step": self.step, "elapsed_s": self.elapsed_s})

    def run(self, loss_of: Callable[[nn.Module, Draw, int], Tensor], report: Callable[[], str] | None = None,
            report_every: int = 500) -> nn.Module:
        """Train until the budget is spent; return the averaged model. loss_of(model, draw, pictures) -> loss."""
        device = next(self.model.parameters()).device
        twins = [self.model] + [twin(self.model) for _ in range(self.workers - 1)]
        pool = ThreadPoolExecutor(self.workers)

        def work(i: int) -> float:
            draw = Draw(self.seed, self.step * self.workers + i, device)
            loss = loss_of(twins[i], draw, self.batch // self.workers) / self.workers
            loss.backward()
            return loss.detach()

        mean, since, steps_since, saved = None, time.monotonic(), 0, time.monotonic()
        while self.progress < 1:
            began = time.monotonic()
            for group in self.optimizer.param_groups:
                group["lr"] = group["pace"] * learning_rate(self.lr, self.step, self.progress, self.warmup)
            loss = sum(pool.map(work, range(self.workers)))
            for other in twins[1:]:
                for ours, theirs in zip(self.model.parameters(), other.parameters(), strict=False):
                    if theirs.grad is not None:
                        ours.grad.add_(theirs.grad)
                        theirs.grad = None
            nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self._average()
            self.step += 1
            self.elapsed_s += time.monotonic() - began
            value = loss.item() if self.step % 10 == 0 or mean is None else None
            if value is not None:
                mean = value if mean is None else 0.95 * mean + 0.05 * value
            steps_since += 1
            if self.step % 50 == 0:
                speed = self.batch * steps_since / (time.monotonic() - since)
                self.log(f"{self.path.stem} step {self.step} {self.elapsed_s / 60:.1f} min loss {mean:.4f} "
                         f"lr {self.optimizer.param_groups[0]['lr']:.1e} {speed:.1f} pictures/s")
                since, steps_since = time.monotonic(), 0
            if report and self.step % report_every == 0:
                self.log(f"{self.path.stem} step {self.step} {report()}")
                since, steps_since = time.monotonic(), 0
            if time.monotonic() - saved > self.save_every_s:
                self.save()
                saved = time.monotonic()
        self.save()
        return self.averaged

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential average of the weights; it starts fast so that the first weights are soon forgotten."""
        decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
        for mean, p in zip(self.averaged.parameters(), self.model.parameters(), strict=False):
            if p.requires_grad:
                mean.lerp_(p, 1 - decay)
