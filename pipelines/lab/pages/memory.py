"""When memory runs out: what a training step takes, what each way out would save, and what it took in truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ...errors import RequestError
from ...events import Event, Notice, StepDone, Tabled
from ...machine import device
from ...machine.memory import refusing
from .. import memory
from ..context import Scene
from ..memory import Cost, Plan
from ..page_requests import LabMemory

MB = 1024**2
SPARE = 0.9  # of the free memory that is taken: the calculation may be some percent off, and others want some, too


def answer(request: LabMemory, scene: Scene) -> Iterator[Event]:
    unet = scene.pipe.unet
    if scene.placement.weights == "4-bit":
        raise RequestError("Model: weights in 4 bits cannot be trained, so there is nothing to calculate. Start with "
                           "--quantize none.", "model")
    plan = Plan(request.batch_size, request.side, request.precision, request.accumulation, request.checkpointing,
                request.optimizer)
    ways = {"as asked": plan, **_ways_out(plan)}
    rows, asked = [], None
    for number, (name, way) in enumerate(ways.items(), 1):
        scene.go_on()
        found = memory.cost(unet, way, memory.unet_step, whole=True, where=scene.placement.device)
        asked = asked or found
        rows.append((name, *map(_mb, (found.weights, found.gradients, found.optimizer, found.passing, found.peak)),
                     f"{found.peak / asked.peak:.0%}"))
        yield StepDone(number, len(ways), 1, 1, 0.0, 0.0)
        yield Tabled("Memory (MB)", ("Way", "Weights", "Gradients", "Optimizer", "Passes", "Peak", "Of what is asked"),
                     tuple(rows))
    if request.measure:
        yield from _measured(request, scene, plan, asked)


def _ways_out(plan: Plan) -> dict[str, Plan]:
    """Each by itself, where it would change something."""
    ways = {"half the batch, twice accumulated": replace(plan, batch_size=max(1, plan.batch_size // 2),
                                                         accumulation=2 * plan.accumulation),
            "gradient checkpointing": replace(plan, checkpointing=True),
            "mixed precision": replace(plan, precision="mixed"),
            "bfloat16 throughout": replace(plan, precision="bfloat16"),
            "8-bit AdamW": replace(plan, optimizer="adamw8bit"),
            "three quarters of the resolution": replace(plan, side=max(64, plan.side * 3 // 4 // 64 * 64))}
    if plan.batch_size == 1:
        del ways["half the batch, twice accumulated"]
    return {name: way for name, way in ways.items() if way != plan}


def _measured(request: LabMemory, scene: Scene, plan: Plan, asked: Cost) -> Iterator[Event]:
    needed, free = asked.weights + asked.passing, device.free_bytes(scene.placement.device)
    if needed > SPARE * free:  # a card would refuse it; of main memory the system would end the whole program
        yield Notice(f"Not measured: the step would take about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
                     "free.")
        return
    if request.optimizer == "adamw8bit":
        yield Notice("The 8-bit optimizer is only calculated: measured were the passes.")
    with refusing("The step does not fit into this machine's memory, as the table says."):
        taken = memory.rehearsed(scene.pipe.unet, plan, scene.placement.device)
    off = asked.passing / taken - 1 if taken else 0.0
    yield Tabled("Measured", ("What", "Calculated", "Measured", "Off by"),
                 (("Passes (MB)", _mb(asked.passing), _mb(taken), f"{off:+.1%}"),))


def _mb(size: int) -> str:
    return f"{size / MB:,.1f}"
