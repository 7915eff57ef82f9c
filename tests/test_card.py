"""What a CUDA card does to the app: tests/card, in a process that takes this machine for one with two cards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.card import build

ROOT = Path(__file__).parents[1]


def test_the_app_runs_on_a_card(pytestconfig: pytest.Config):
    reason = build.reason_against()
    if reason and os.environ.get("CI") == "true" and sys.platform.startswith("linux"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    cache = pytestconfig.cache.mkdir("pretend-card")
    build.library(cache)
    # OpenMP reads its number when torch is first imported, which is before any conftest there.
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PRETEND_CACHE": str(cache), "PRETEND_CARDS": "2"}
    environ = {name: value for name, value in environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "tests.card.pretend", "tests/card", "-x"], cwd=ROOT,
                          env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-12_000:]
