"""What every test may use. The environment is set before torch, gradio or the hub's client is first imported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when it is first imported; the other core has the other process
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_CACHE"] = os.devnull  # no test sees the models of whoever runs it
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"


# What begins first, so that two processes end together: where one of them is busy for longest.
FIRST = ("tests/browser/", "tests/test_card.py", "tests/ui/", "tests/pipelines/training/", "tests/pipelines/lab/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by FIRST and leave all else in its order."""
    items.sort(key=lambda item: next((place for place, start in enumerate(FIRST) if item.nodeid.startswith(start)),
                                     len(FIRST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give each process whole files, and all that drives the browser to one: there is one server and one Chromium."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "browser" if file.startswith("tests/browser/") else file

    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def own_uploads(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give each process its own cache: names tell what is in a file, and a server that ends deletes what it made."""
    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path_factory.mktemp("uploads"))


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion 1.x folder; shared, so no test writes into it."""
    from tests.tiny import tiny_sd

    return tiny_sd(tmp_path_factory.mktemp("models") / "tiny-sd")


@pytest.fixture(scope="session")
def sd9_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny inpainting checkpoint: its U-Net takes 9 channels."""
    from tests.tiny import tiny_sd

    return tiny_sd(tmp_path_factory.mktemp("models") / "tiny-sd-inpainting", in_channels=9)


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL folder."""
    from tests.tiny import tiny_sdxl

    return tiny_sdxl(tmp_path_factory.mktemp("models") / "tiny-sdxl")


@pytest.fixture
def studio(tmp_path: Path, sd_folder: Path):
    """A studio with the tiny model and a data folder of its own."""
    from pipelines.settings import load
    from pipelines.studio.studio import Studio

    studio = Studio(load(["--data-dir", str(tmp_path / "data"), "--model", str(sd_folder)], {}))
    yield studio
    studio.close()
