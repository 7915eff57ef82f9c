"""Two hundred mixed jobs, three hundred page opens and fifty clients leave the app as it was."""

from __future__ import annotations

import pytest

from benchmarks.soak import Standing, soak

DRIFT = 0.05


def test_drift_is_what_there_is_more_of():
    before = Standing(100, 10, 20)
    assert before.drift(Standing(105, 10, 10)) == pytest.approx({"memory": 0.05, "threads": 0, "files": 0})


@pytest.mark.slow
def test_nothing_grows(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # given back afterwards
    standings = list(soak(jobs=200, opens=300, clients=50))
    drift = standings[1].drift(standings[-1])
    assert max(drift.values()) < DRIFT, (drift, standings)
