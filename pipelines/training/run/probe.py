"""Try a run before it begins: what fits into memory, how long a step takes, and when it will be done.

A few updates' gradients are computed and thrown away, so nothing that follows from them changes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import monotonic
from typing import Self

import torch

from ...errors import OutOfMemory
from ...machine import device
from ...models.optimizer_state import state_bytes
from ..events import Event, Forecast, Notice
from .loop import Loop

UPDATES = 3  # that are timed; one with a single picture comes before them
SPARE = 0.9  # of the free memory that a run may take
FORWARD = 1 / 3  # of a step's time: back and forward again is twice as much
LOOK_EVERY_S = 0.02


def probe(loop: Loop, pictures_a_sampling: int) -> Iterator[Event]:
    """Choose micro-batch and gradient checkpointing of a run that has not begun, then forecast memory and time.

    Raises OutOfMemory when not even one picture fits.
    """
    state = state_bytes(loop.config.optimizer, loop.trainee.parameters)  # which the first update makes
    yield from _fit(loop, state)
    with Peak(loop.base.device) as peak:
        first = monotonic()
        took = []
        for _ in range(UPDATES):
            yield from loop.rehearse()
            took.append(monotonic() - first)
            first = monotonic()
    step_s = min(took)
    loop.aside_s = _aside_s(loop, step_s, pictures_a_sampling)
    room = peak.after + device.free_bytes(loop.base.placement.device)
    yield Forecast(0, step_s, (step_s + loop.aside_s) * loop.config.steps, peak.bytes + state, room,
                   loop.progress.micro_batch, loop.progress.checkpointing)


def _fit(loop: Loop, state: int) -> Iterator[Event]:
    """Measure what one of the largest pictures takes, and set how many of them are computed at once.

    state: bytes that the optimizer will keep beside that.
    """
    wanted = loop.progress.micro_batch
    # Of several processes the first one's numbers count, so that all take the same way.
    whole = loop.team.agree(device.free_bytes(loop.base.placement.device))
    free = int(whole * SPARE) - state
    need = yield from _needed_bytes(loop)
    if need > free and not loop.progress.checkpointing and loop.config.gradient_checkpointing == "auto":
        loop.progress.checkpointing = True
        yield Notice(0, "One picture takes more memory than is free: gradient checkpointing is on; it is slower.")
        need = yield from _needed_bytes(loop)
    exact = loop.base.device.type == "cuda"  # of a process on a CPU the memory is known about, and some can be swapped
    if state + (need if exact else 0) > whole:
        raise OutOfMemory(f"Not enough memory: the optimizer {loop.config.optimizer} keeps {state / 1e9:.1f} GB beside "
                          f"the {need / 1e9:.1f} GB of a picture, and {whole / 1e9:.1f} GB are free. Take the "
                          "optimizer adafactor, the method lora, a lower rank or resolution.")
    loop.progress.micro_batch = max(1, min(wanted, free // max(need, 1)))
    if loop.progress.micro_batch < wanted:
        yield Notice(0, f"{loop.progress.micro_batch} of {wanted} pictures fit into memory at once, so a step is "
                        "computed in parts. The result is the same.")


def _needed_bytes(loop: Loop) -> Iterator[Event]:
    """Memory that one picture takes beside what is there already; the generator's return value."""
    with Peak(loop.base.device) as peak:
        yield from loop.rehearse(largest=True)
    return loop.team.agree(peak.bytes - peak.before)


def _aside_s(loop: Loop, step_s: float, pictures_a_sampling: int) -> float:
    """About how long samples and measurements take, as seconds for each step."""
    config, base = loop.config, loop.base
    one = FORWARD * step_s / (config.batch_size * config.accumulation)  # a picture through the U-Net
    measured = one * len(loop.examples.held_out()) / config.validate_every
    if not config.sample_every:
        return measured
    size = (base.card.native_size / config.resolution) ** 2
    with_guidance = 2 if base.card.guidance_scale > 1 else 1
    denoising = with_guidance * (config.sample_steps or base.card.steps) * one * size
    return measured + pictures_a_sampling * denoising / config.sample_every


class Peak:
    """The most memory taken between enter and exit. bytes, before, after: on the card; of the process on a CPU."""

    def __init__(self, where: torch.device):
        self._where, self._ended = where, threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self.before = self.bytes = self.after = 0

    def __enter__(self) -> Self:
        if self._where.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._where)
            self.before = torch.cuda.memory_allocated(self._where)
        else:
            self.before = self.bytes = _resident()
            self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._where.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._where)
            self.after = torch.cuda.memory_allocated(self._where)
        else:
            self._ended.set()
            self._watch.join()
            self.after = _resident()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_EVERY_S):
            self.bytes = max(self.bytes, _resident())


def _resident() -> int:
    import psutil

    return psutil.Process().memory_info().rss

