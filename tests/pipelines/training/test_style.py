"""The promise of the example: "style, fast" on the embedded model changes the style of things it was not shown."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipelines import generate
from pipelines.adapters import read as adapters
from pipelines.adapters.apply import applied
from pipelines.cache import build
from pipelines.events import ImageReady
from pipelines.requests import Txt2Img, make
from pipelines.training import base as bases
from pipelines.training import example
from pipelines.training.request import from_toml

REPO = Path(__file__).parents[3]
SIDE = 32
LOWER_BY = 0.25
CPU_S = 500  # of the 600 that two cores have in five minutes; the rest is what they cannot share


def lab(image: Image.Image) -> np.ndarray:
    """(32, 32, 3) CIE L*a*b*: L 0..100, a and b -128..127."""
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    values = np.asarray(ImageCms.applyTransform(small, transform))
    signed = values[..., 1:].copy().view(np.int8).astype(np.float32)
    return np.concatenate([values[..., :1].astype(np.float32) * (100 / 255), signed], -1)


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean colour difference (CIE 1976) over the cells."""
    return float(np.linalg.norm(lab(one) - lab(other), axis=-1).mean())


def mean_distance(draw: Callable[[str, int], Image.Image]) -> float:
    """Of pictures of the held-out things to their drawings in the example's style."""
    return float(np.mean([distance(draw(caption, seed), Image.open(path))
                          for seed, (caption, path) in enumerate(example.held_out().items())]))


@pytest.mark.slow
def test_style_fast_brings_unseen_things_a_quarter_nearer_to_the_style_in_five_minutes(tmp_path):
    subprocess.run([sys.executable, "-m", "pipelines.training.example", str(tmp_path / "ink")], cwd=REPO, check=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "pipelines.training", str(tmp_path / "ink.toml")], cwd=REPO, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < CPU_S

    config = from_toml(tmp_path / "ink.toml")
    card = bases.find_card("demo")
    base = bases.load(card, config)
    pipe = build(base.family.name, "txt2img", base.components)

    def draw(prompt: str, seed: int) -> Image.Image:
        request = make(Txt2Img, prompt=prompt, seed=seed, model=card.name, sampler=card.sampler, steps=card.steps,
                       schedule=card.schedule, guidance_scale=float(card.guidance_scale), width=card.native_size,
                       height=card.native_size)
        return next(event.image for event in generate.run(request, pipe, base.family, None)
                    if isinstance(event, ImageReady))

    without = mean_distance(draw)
    with applied(pipe, [(adapters.read(tmp_path / "ink.safetensors", pipe, base.family), 1.0, 1.0)]):
        with_lora = mean_distance(draw)
    print(f"distance without {without:.1f}, with {with_lora:.1f}")
    assert with_lora <= (1 - LOWER_BY) * without


def test_the_example_is_small_and_shows_other_things_than_it_holds_out(tmp_path):
    assert example.copy(tmp_path / "copy") == 24
    captions = {path.read_text().strip() for path in (tmp_path / "copy").glob("*.txt")}
    assert len(captions) == len(example.held_out()) == 24 and not captions & example.held_out().keys()
    assert all(Image.open(path).size == (128, 128) for path in (tmp_path / "copy").glob("*.png"))
    assert sum(path.stat().st_size for path in Path(example.__file__).parent.rglob("*.png")) < 300_000
