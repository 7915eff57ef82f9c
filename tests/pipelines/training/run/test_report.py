"""Where a run's numbers go beside its log."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from pipelines.training.events import HeldOut, Notice, StepDone
from pipelines.training.run.folder import RunFolder, read_events
from pipelines.training.run.report import Report

STEP = StepDone(1, 2, 0.5, 1e-4, 0.1, 2.0, 3.0)


def test_the_curves_are_written_for_tensorboard(make_config, tmp_path):
    report = Report(RunFolder(tmp_path), make_config(tensorboard=True))
    for event in (STEP, HeldOut(1, 0.25, True)):
        report.write(event)
    report.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written = EventAccumulator(str(tmp_path / "tensorboard"))
    written.Reload()
    found = {name: written.Scalars(name)[0].value for name in written.Tags()["scalars"]}
    assert found == pytest.approx({"loss": 0.5, "learning rate": 1e-4, "gradient norm": 0.1, "held-out loss": 0.25})


@pytest.mark.skipif(importlib.util.find_spec("wandb") is not None, reason="wandb is installed")
def test_a_service_that_is_not_there_is_said_and_the_run_does_not_need_it(make_config, tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_config(make_config())
    report = Report(folder, make_config(wandb=True))
    report.write(STEP)
    report.close()
    notice, step = read_events(folder)[0]
    assert isinstance(notice, Notice) and "Weights & Biases does not take part" in notice.text and step == STEP


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_the_curves_go_to_weights_and_biases_also_of_steps_done_again(make_config, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = RunFolder(tmp_path)
    folder.write_config(make_config())
    report = Report(folder, make_config(wandb=True))
    events = [StepDone(step, 9, loss, 1e-4, 0.1, 2.0, 3.0) for step, loss in ((1, 0.515), (5, 0.525), (2, 0.535))]
    for event in events:
        report.write(event)
    report.close()
    importlib.import_module("wandb").teardown()  # waits until its own process has written everything
    written = next(tmp_path.glob("wandb/offline-run-*/*.wandb")).read_bytes()
    assert all(str(event.loss).encode() in written for event in events)
    assert read_events(folder)[0] == events
