"""Models for the denoise loop, each as (family, parts)."""

from __future__ import annotations

import pytest

from .draw import components


@pytest.fixture(scope="module")
def sd(sd_folder):
    return "sd15", components(sd_folder)


@pytest.fixture(scope="module")
def sdxl(sdxl_folder):
    return "sdxl", components(sdxl_folder)


@pytest.fixture(scope="module")
def sd9(sd9_folder):
    return "sd15", components(sd9_folder)


@pytest.fixture
def no_previews(monkeypatch):
    """On a busy machine a preview would be one more call of the decoder; the tests that want some turn them on."""
    monkeypatch.setattr("pipelines.generation.decode.PREVIEW_EVERY_S", 999)
