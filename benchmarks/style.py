"""How far the example run changes the style of things it was not shown: python -m benchmarks.style [KEY=VALUE ...]

    python -m benchmarks.style                                the preset "style, fast", on the embedded model
    python -m benchmarks.style steps=400 learning_rate=2e-3   with other values of a config
    python -m benchmarks.style --lora ink.safetensors         measures a LoRA that is there, without training

Prints what the run cost in CPU time (the promise is five minutes of two cores), and, without and with the LoRA, for
pictures of the 24 held-out things, drawn with the same prompts, seeds and settings:

    distance     to the drawing of the same thing, in 32 x 32 cells of Lab (the promise is 25 % less). A cell counts by
                 the nearest colour among the cell of the same place and its neighbours, both ways: a line that is
                 drawn a cell beside where it is in the drawing has not the wrong style, and must not count twice as
                 much as one that is missing, as it does where cells are compared one by one
    cell by cell the same without neighbours. A blank sheet is 21 % nearer than coloured pictures by this measure, and
                 the drawing of another thing in the right style 6 %, so it says little of style
    recognised   how many have their own drawing among the five nearest of the 24; five by chance
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from pipelines.machine.device import prepare_environment

ROOT = Path(__file__).parent.parent
SIDE = 32
REACH = 1  # cells of 32: 3 % of the side
NEAREST = 5
CPU_S = 600  # of two cores in five minutes
LOWER_BY = 0.25

Draw = Callable[[str, int], Image.Image]


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("values", nargs="*", metavar="KEY=VALUE", help="of a config; TOML's notation")
    parser.add_argument("--lora", type=Path, help="a LoRA to measure instead of training one")
    parser.add_argument("--weight", type=float, default=1.0, help="with which it is used")
    parser.add_argument("--things", type=int, help="draw so many only, for a quick look; all 24 are the promise")
    options = parser.parse_args(argv)
    prepare_environment(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        lora, cpu_s = (options.lora, 0.0) if options.lora else train(Path(folder), options.values)
        if cpu_s:
            print(f"training took {cpu_s:.0f} s of CPU time; two cores have {CPU_S} in five minutes", flush=True)
        with embedded(lora, options.weight) as (draw, switch):
            without = measure(draw, options.things)
            with switch:
                changed = measure(draw, options.things)
    print(f"              without   with\n"
          f"distance      {without.distance:7.2f}{changed.distance:7.2f}  {changed.less_than(without):.1%} less; the "
          f"promise is {LOWER_BY:.0%}\n"
          f"cell by cell  {without.cell_by_cell:7.2f}{changed.cell_by_cell:7.2f}\n"
          f"recognised    {without.recognised:7}{changed.recognised:7}  of {without.pictures}")


def train(folder: Path, values: list[str]) -> tuple[Path, float]:
    """Run the example as the command line does; returns the LoRA and the seconds of CPU time."""
    subprocess.run([sys.executable, "-m", "pipelines.training.example", str(folder / "ink")], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)
    config = folder / "ink.toml"
    keys = {value.partition("=")[0].strip() for value in values}
    kept = [line for line in config.read_text("utf-8").splitlines() if line.partition("=")[0].strip() not in keys]
    config.write_text("\n".join([*kept, *map(quoted, values)]), encoding="utf-8")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "pipelines.training", str(config)], cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return folder / "ink.safetensors", after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def quoted(pair: str) -> str:
    """KEY=VALUE as a line of TOML; words need no quotes on the command line."""
    import tomllib

    key, _, value = pair.partition("=")
    try:
        tomllib.loads(f"x = {value}")
    except tomllib.TOMLDecodeError:
        value = json.dumps(value)
    return f"{key.strip()} = {value}"


@contextmanager
def embedded(lora: Path, weight: float = 1.0) -> Iterator[tuple[Draw, object]]:
    """Gives a function that draws with the embedded model, and a context in which it draws with the LoRA."""
    from pipelines.adapters import read as adapters
    from pipelines.adapters.apply import applied
    from pipelines.events import ImageReady
    from pipelines.generation import generate
    from pipelines.models.cache import build
    from pipelines.requests import Txt2Img, make
    from pipelines.settings import load
    from pipelines.training.numbers import base_model as bases
    from pipelines.training.request import TrainLora

    config, settings = TrainLora(model="demo", data=".", output=".", name="x"), load([], os.environ)
    card = bases.find_card(config, settings)
    base = bases.load(card, config, settings)
    pipe = build(base.family.name, "txt2img", base.components)

    def draw(prompt: str, seed: int) -> Image.Image:
        request = make(Txt2Img, prompt=prompt, seed=seed, model=card.name, sampler=card.sampler, steps=card.steps,
                       schedule=card.schedule, guidance_scale=float(card.guidance_scale), width=card.native_size,
                       height=card.native_size)
        return next(event.image for event in generate.run(request, pipe, base.family, None)
                    if isinstance(event, ImageReady))

    yield draw, applied(pipe, [(adapters.read(lora, pipe, base.family), weight, weight)])


@dataclass(frozen=True)
class Measure:
    """Means over the pictures. recognised: how many of them have their own drawing among the NEAREST."""

    distance: float
    cell_by_cell: float
    recognised: int
    pictures: int

    def less_than(self, other: Measure) -> float:
        """Share by which the distance is lower than another one."""
        return 1 - self.distance / other.distance


def measure(draw: Draw, things: int | None = None) -> Measure:
    """Compare pictures of the held-out things with their drawings in the example's style. things: the first only."""
    from pipelines.training import example

    held = list(example.held_out().items())[:things]
    drawings = [lab(Image.open(path)) for _, path in held]
    pictures = [lab(draw(caption, seed)) for seed, (caption, _) in enumerate(held)]
    table = np.array([[distance(picture, drawing) for drawing in drawings] for picture in pictures])
    own = np.diagonal(table)
    strict = np.mean([distance(*pair, reach=0) for pair in zip(pictures, drawings, strict=True)])
    return Measure(float(own.mean()), float(strict), int(((table < own[:, None]).sum(1) < NEAREST).sum()), len(held))


def distance(one: np.ndarray, other: np.ndarray, reach: int = REACH) -> float:
    """Mean colour difference (CIE 1976) of each cell to the nearest one at most `reach` cells away, both ways.

    one, other: (32, 32, 3) Lab. The image distortion model of Keysers et al. 2007 ("Deformation models for image
    recognition", IEEE TPAMI 29(8)), made symmetric. A way back is needed: a blank sheet is near to every drawing.
    """
    return float(_to_nearest(one, other, reach) + _to_nearest(other, one, reach)) / 2


def _to_nearest(one: np.ndarray, other: np.ndarray, reach: int) -> np.floating:
    padded = np.pad(other, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, one.shape[:2], (0, 1))  # (2 reach + 1, same, 3, h, w)
    return np.linalg.norm(windows - np.moveaxis(one, -1, 0), axis=2).min((0, 1)).mean()


def lab(image: Image.Image) -> np.ndarray:
    """(32, 32, 3) CIE L*a*b*: L 0..100, a and b -128..127."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    values = np.asarray(ImageCms.applyTransform(small, transform))
    signed = values[..., 1:].copy().view(np.int8).astype(np.float32)
    return np.concatenate([values[..., :1].astype(np.float32) * (100 / 255), signed], -1)


if __name__ == "__main__":
    main(sys.argv[1:])
