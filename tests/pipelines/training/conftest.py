"""A small dataset, and runs on the tiny models: the real loop, in this process or in one of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.settings import Settings, load
from pipelines.training.dataset.survey import split, survey
from pipelines.training.numbers import base_model as bases
from pipelines.training.numbers import trainable as trainees
from pipelines.training.numbers.batches import Examples, plan
from pipelines.training.numbers.caches import TensorCache
from pipelines.training.numbers.progress import Hooks
from pipelines.training.presets import resolve
from pipelines.training.request import TrainLora, from_table
from pipelines.training.run.loop import Loop
from pipelines.training.run.state import Checkpoints


def write_pictures(folder: Path, sizes: list[tuple[int, int]], seed: int = 0) -> Path:
    """Pictures of smooth random colours with captions beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i, size in enumerate(sizes):
        coarse = Image.fromarray(rng.integers(0, 255, (4, 4, 3), np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"a cat, red, picture {i}")
    return folder


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the person at this machine on the command line."""
    monkeypatch.setenv("ATELIER_DATA_DIR", str(tmp_path / "app-data"))


def settings_beside(folder: Path) -> Settings:
    """What a run is told, with a data folder beside its own."""
    return load(["--data-dir", str(folder.parent / "app-data")], {})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """What a run in the test's folder is told."""
    return settings_beside(tmp_path / "run")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pictures of five shapes; shared, so no test writes into it."""
    sizes = [(64, 64), (80, 64), (64, 96), (128, 64), (100, 100), (70, 66), (64, 64)]
    return write_pictures(tmp_path_factory.mktemp("data") / "pictures", sizes)


@pytest.fixture
def make_config(sd_folder: Path, pictures: Path, tmp_path: Path) -> Callable[..., TrainLora]:
    """Configs for the tiny model: few steps, nothing optional."""

    def make(**changes) -> TrainLora:
        table = {"model": str(sd_folder), "data": str(pictures), "output": str(tmp_path / "out"), "name": "one",
                 "steps": 4, "batch_size": 2, "save_every": 0, "save_minutes": 0, "validation": 0.0,
                 "learning_rate": 1e-3, "tensorboard": False, "sample_steps": 1}
        return from_table({**table, **changes}, tmp_path)

    return make


@pytest.fixture
def make_loop(make_config, settings, tmp_path: Path) -> Callable[..., Loop]:
    """A loop on the tiny model, without the process around it."""

    def make(**changes) -> Loop:
        config = make_config(**changes)
        card = bases.find_card(config, settings)
        pictures = survey(Path(config.data), resolution=64)
        config = resolve(config, pictures=len(pictures), native_size=64, unet_parameters=card.unet_parameters)
        trained, held = split(pictures, config.validation, config.seed)
        base = bases.load(card, config, settings)
        examples = Examples(plan(trained, config, base.size_step), plan(held, config, base.size_step), base, config,
                            TensorCache())
        list(examples.prepare())

        def export(folder: Path, step: int) -> str:
            (folder / "weights").touch()
            return "weights"

        return Loop(base, config, examples, trainees.make(base, config), Checkpoints(tmp_path / "checkpoints", 2),
                    Hooks(list, export, lambda step: iter(())))

    return make
