"""How far the example run changes the style of things it was not shown: python -m benchmarks.style [KEY=VALUE ...]

    python -m benchmarks.style                                the preset "style, fast", on the embedded model
    python -m benchmarks.style steps=400 learning_rate=2e-3   with other values of a config
    python -m benchmarks.style --lora ink.safetensors         measures a LoRA that is there, without training

Prints what the run cost in CPU time (the promise is five minutes of two cores), and the mean distance (32 x 32 Lab)
of pictures of the 24 held-out things to their drawings, without and with the LoRA (the promise is 25 % less).
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
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from pipelines.device import prepare_environment

ROOT = Path(__file__).parent.parent
SIDE = 32
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
            without = mean_distance(draw, options.things)
            with switch:
                distance_with = mean_distance(draw, options.things)
    print(f"distance without {without:.2f}, with {distance_with:.2f}: {1 - distance_with / without:.1%} less; the "
          f"promise is {LOWER_BY:.0%}")


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
    from pipelines.training import base as bases
    from pipelines.training.request import TrainLora

    card = bases.find_card("demo")
    base = bases.load(card, TrainLora(model="demo", data=".", output=".", name="x"))
    pipe = build(base.family.name, "txt2img", base.components)

    def draw(prompt: str, seed: int) -> Image.Image:
        request = make(Txt2Img, prompt=prompt, seed=seed, model=card.name, sampler=card.sampler, steps=card.steps,
                       schedule=card.schedule, guidance_scale=float(card.guidance_scale), width=card.native_size,
                       height=card.native_size)
        return next(event.image for event in generate.run(request, pipe, base.family, None)
                    if isinstance(event, ImageReady))

    yield draw, applied(pipe, [(adapters.read(lora, pipe, base.family), weight, weight)])


def mean_distance(draw: Draw, things: int | None = None) -> float:
    """Of pictures of the held-out things to their drawings in the example's style. things: the first ones only."""
    from pipelines.training import example

    held = list(example.held_out().items())[:things]
    return float(np.mean([distance(draw(caption, seed), Image.open(path))
                          for seed, (caption, path) in enumerate(held)]))


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean colour difference (CIE 1976) over the cells."""
    return float(np.linalg.norm(lab(one) - lab(other), axis=-1).mean())


def lab(image: Image.Image) -> np.ndarray:
    """(32, 32, 3) CIE L*a*b*: L 0..100, a and b -128..127."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    values = np.asarray(ImageCms.applyTransform(small, transform))
    signed = values[..., 1:].copy().view(np.int8).astype(np.float32)
    return np.concatenate([values[..., :1].astype(np.float32) * (100 / 255), signed], -1)


if __name__ == "__main__":
    main(sys.argv[1:])
