"""Pipelines for the adapter tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.families import FAMILIES
from tests.pipelines.adapters.made import pipe_of

CLASSES = {"sd15": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}


@pytest.fixture(params=["sd15", "sdxl"])
def family(request: pytest.FixtureRequest) -> Any:
    return FAMILIES[request.param]


@pytest.fixture
def folder(family: Any, sd_folder: Path, sdxl_folder: Path) -> Path:
    return {"sd15": sd_folder, "sdxl": sdxl_folder}[family.name]


@pytest.fixture
def pipe(family: Any, folder: Path) -> Any:
    return pipe_of(folder, CLASSES[family.name])


@pytest.fixture
def sd_pipe(sd_folder: Path) -> Any:
    return pipe_of(sd_folder)
