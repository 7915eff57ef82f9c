"""LoRA from the inside: several ranks learn the same lesson; what they draw, cost, and change in each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ...errors import RequestError
from ...events import Event, StepDone, Tabled
from ...generation.batches import Pace
from ...images.grid import grid
from .. import checkpoints, draw, lora, sets
from ..attention import coloured
from ..checkpoints import Model
from ..context import Made, Scene
from ..data import TinySet
from ..page_requests import NO_FILE, LabLora
from ..sampling import ddim, last

SHOWN = 10  # pictures in a row
STEPS = 12
SHOWN_PX = 48
CELL_PX = 48  # of the heat map
MOST_ROWS = 48
CURVE_EVERY = 5
PROJECTIONS = {"all": lora.TARGETS, "query and value": ("to_q", "to_v"), "key and value": ("to_k", "to_v"),
               "output": ("to_out",)}
LESSONS = {
    "inverted": lambda pixels: -pixels,
    "mirrored": lambda pixels: pixels.flip(3),
    "bold": lambda pixels: F.max_pool2d(pixels, 3, stride=1, padding=1),
}


def answer(request: LabLora, scene: Scene) -> Iterator[Event | Made]:
    if request.file != NO_FILE:
        found = lora.norms_of_file(scene.shelf.lora(request.file))
        yield _norm_table({request.file: found})
        many = f", the {MOST_ROWS} largest of {len(found)}" if len(found) > MOST_ROWS else ""
        yield Made(f"Size of the change by layer{many}", heat_map({request.file: found}))
        return
    ranks = _ranks(request.ranks)
    folder = scene.shelf.run(request.run_name)
    model = checkpoints.load_model(folder, draw.device_of(scene.device))
    about = checkpoints.read(folder)["request"]
    tiny = sets.load(about["data"], about["side"])
    tiny = replace(tiny, pixels=LESSONS[request.lesson](tiny.pixels))
    yield from _compare(request, scene, model, tiny, ranks)


def _compare(request: LabLora, scene: Scene, model: Model, tiny: TinySet, ranks: list[int]) -> Iterator[Event | Made]:
    drawn, labels = _drawn(model, request.seed), ["base"]
    base, rows = drawn, [*_pictures(model, drawn)]
    curve: list[tuple[int, float, str]] = []
    counts: list[tuple[str, ...]] = []
    changes: dict[str, Mapping[str, float]] = {}
    pace = Pace(len(ranks))
    for number, rank in enumerate(ranks, 1):
        pace.images_left = len(ranks) - number + 1
        torch.manual_seed(request.seed)
        layers = lora.inject(model.network, rank, targets=PROJECTIONS[request.projections])
        try:
            losses = lora.fit(model, layers, tiny, updates=request.updates, learning_rate=request.learning_rate,
                              seed=request.seed)
            for step, loss in enumerate(losses, 1):
                speed, left = pace.tick(step, request.updates, 1)
                yield StepDone(step, request.updates, number, len(ranks), speed, left)
                if step % CURVE_EVERY == 1:
                    curve.append((step, round(loss, 4), f"rank {rank}"))
                scene.go_on()
            for layer in layers.values():
                layer.scale *= request.scale
            adapted = _drawn(model, request.seed)
            with lora.merged(model.network, layers):
                merged = _drawn(model, request.seed)
            size, changes[f"rank {rank}"] = lora.count(model.network, layers), lora.norms(layers)
        finally:
            lora.remove(model.network, layers)
        rows += _pictures(model, adapted)
        labels.append(f"rank {rank}")
        counts.append((str(rank), f"{size.trained:,}", f"{size.share:.1%}", f"{losses_end(curve):.3f}",
                       f"{float((merged - adapted).abs().max()):.1e}", f"{float((adapted - base).abs().mean()):.2f}"))
        yield Tabled("Ranks", ("Rank", "Trained numbers", "Of the model", "Loss at the end",
                               "Merged against adapted, at most", "Adapted against base, mean"), tuple(counts))
    yield Tabled("Loss", ("update", "loss", "rank"), tuple(curve))
    yield Made("Base and adapted, the same noise in each column",
               grid(rows, columns=SHOWN, row_labels=labels, say=scene.say))
    yield Made("Size of the change by layer, as a share of the weight", heat_map(changes, scene.say))
    yield _norm_table(changes)


def losses_end(curve: list[tuple[int, float, str]]) -> float:
    """Mean of the newest points."""
    newest = [loss for _, loss, _ in curve[-5:]]
    return sum(newest) / len(newest)


def heat_map(changes: Mapping[str, Mapping[str, float]], say: Callable[[str], str] = str) -> Image.Image:
    """A row a layer, a column an adaptation; bright is the largest of all. Of many layers, those that change most."""
    most = max((value for column in changes.values() for value in column.values()), default=0.0) or 1.0
    names = list(next(iter(changes.values())))
    if len(names) > MOST_ROWS:
        kept = set(sorted(names, key=lambda name: -max(column[name] for column in changes.values()))[:MOST_ROWS])
        names = [name for name in names if name in kept]
    cells = [Image.new("RGB", (CELL_PX, CELL_PX // 2), coloured(column[name] / most)) for name in names
             for column in changes.values()]
    return grid(cells, columns=len(changes), row_labels=[_short(name) for name in names], column_labels=list(changes),
                say=say)


def _norm_table(changes: Mapping[str, Mapping[str, float]]) -> Tabled:
    names = next(iter(changes.values()))
    return Tabled("Change by layer", ("Layer", *changes), tuple(
        (name, *(f"{column[name]:.4f}" for column in changes.values())) for name in names))


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"...{name[-37:]}"


def _ranks(text: str) -> list[int]:
    ranks = sorted({int(one) for one in text.split(",")})
    if not 1 <= ranks[0] <= ranks[-1] <= lora.MAX_RANK:
        raise RequestError(f"Ranks: each lies between 1 and {lora.MAX_RANK}.", "ranks")
    return ranks


def _drawn(model: Model, seed: int) -> Tensor:
    """One picture a class, always from the same noise."""
    noise, generators = model.noise([seed + i for i in range(SHOWN)])
    place = next(model.network.parameters()).device
    context = None
    if model.classes:
        context = F.one_hot(torch.arange(SHOWN) % len(model.classes), len(model.classes)).float().to(place)
    denoiser = draw.denoiser_of(model.network, model.prediction, context, 2.0)
    return last(ddim(denoiser, model.schedule, noise.to(place), generators, STEPS)).x


def _pictures(model: Model, x: Tensor) -> list[Image.Image]:
    return [model.image(one, max(1, SHOWN_PX // model.side)) for one in x]
