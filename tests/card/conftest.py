"""Tests that need a card; they are collected only where the plugin pretends that there is one."""

from __future__ import annotations

import sys

import pytest

if "tests.card.pretend" in sys.modules:
    # Fixtures, which pytest finds by their names here; nothing else in this file uses them.
    from tests.pipelines.training.conftest import make_config, make_loop, own_data_folder, pictures, settings  # noqa: F401
else:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def first_card():
    """Leave each test the first card as the current one, with nothing cached."""
    import torch

    torch.cuda.set_device(0)
    torch.cuda.empty_cache()
    yield
    torch.cuda.set_device(0)


@pytest.fixture
def make_studio(tmp_path, sd_folder):
    """Studios on a card. flags: of the command line."""
    from pipelines.settings import load
    from pipelines.studio.studio import Studio

    made = []

    def build(*flags):
        made.append(Studio(load(["--data-dir", str(tmp_path / "data"), "--model", str(sd_folder), *flags], {})))
        return made[-1]

    yield build
    for studio in made:
        studio.close()
