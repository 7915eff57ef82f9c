"""Tests that need a card; they are collected only where the plugin pretends that there is one."""

from __future__ import annotations

import sys

import pytest

if "tests.card.pretend" in sys.modules:
    from tests.pipelines.training.conftest import make_config, make_loop, own_data_folder, pictures  # noqa: F401
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
