"""What is tried before a run begins, on a tiny model."""

from __future__ import annotations

from time import monotonic, sleep

import pytest
import torch

from pipelines.machine import device
from pipelines.training.__main__ import main
from pipelines.training.events import Forecast, Notice, StepDone
from pipelines.training.run import follow
from pipelines.training.run.execute import run
from pipelines.training.run.folder import RunFolder
from pipelines.training.run.probe import LOOK_EVERY_S, Peak, probe
from tests.pipelines.training.conftest import settings_beside
from tests.pipelines.training.run.test_execute import losses, run_in, write_config
from tests.pipelines.training.run.test_loop import events_of


def test_a_run_forecasts_before_its_first_step_and_is_the_same_as_without(make_loop):
    plain, probed = make_loop(steps=3), make_loop(steps=3)
    forecast = list(probe(probed, 0))[-1]
    assert isinstance(forecast, Forecast) and forecast.step == 0
    assert forecast.seconds_left == pytest.approx(3 * (forecast.seconds_per_step + probed.aside_s))
    assert 0 < forecast.peak_bytes < forecast.room_bytes and forecast.micro_batch == 2
    assert events_of(plain, StepDone)[-1].loss == events_of(probed, StepDone)[-1].loss
    assert all(torch.equal(tensor, probed.trainee.weights()[name]) for name, tensor in plain.trainee.weights().items())


def test_samples_and_measurements_are_part_of_the_forecast(make_loop):
    bare, busy = make_loop(steps=100), make_loop(steps=100, validation=0.4, sample_every=10, validate_every=10)
    told = list(probe(bare, 4))[-1]
    assert bare.aside_s == 0 and told.seconds_left == pytest.approx(100 * told.seconds_per_step)
    told = list(probe(busy, 4))[-1]
    assert told.seconds_left > 100 * told.seconds_per_step * 1.2  # a sampling of four pictures every ten steps


def test_too_little_memory_for_a_batch_cuts_it_and_for_one_picture_turns_checkpointing_on(make_loop, monkeypatch):
    loop = make_loop(batch_size=4, steps=2)
    need = 10_000_000
    # how much a device has and a step takes, which no test can choose; what follows from it is real
    monkeypatch.setattr(Peak, "bytes", property(lambda peak: need, lambda peak, value: None), raising=False)
    monkeypatch.setattr(Peak, "before", property(lambda peak: 0, lambda peak, value: None), raising=False)
    monkeypatch.setattr(device, "free_bytes", lambda place: 2.5 * need)
    told = [event.text for event in probe(loop, 0) if isinstance(event, Notice)]
    assert loop.progress.micro_batch == 2 and not loop.progress.checkpointing and "2 of 4 pictures" in told[0]
    monkeypatch.setattr(device, "free_bytes", lambda place: 0.5 * need)
    list(probe(loop, 0))
    assert loop.progress.micro_batch == 1 and loop.progress.checkpointing and loop.base.unet.is_gradient_checkpointing


def test_the_peak_of_a_moment_is_seen():
    end = monotonic() + 300
    with Peak(torch.device("cpu")) as peak:
        block = torch.ones(60_000_000)
        while peak.bytes - peak.before < 150_000_000 and monotonic() < end:  # until the thread that looks had its turn
            sleep(LOOK_EVERY_S)
        del block
    assert peak.bytes - peak.before > 150_000_000


def test_the_command_line_probes_and_leaves_nothing_behind(make_config, tmp_path, capsys):
    config = make_config(steps=50)
    assert main([str(write_config(tmp_path / "config.toml", config)), "--probe"]) == 0
    said = capsys.readouterr().out
    assert "s a step, 2 pictures at once" in said and "probed" in said
    assert not (tmp_path / "out").exists()


def test_a_probed_run_can_begin_and_a_new_one_takes_its_place(make_config, tmp_path):
    config, folder = make_config(steps=2), RunFolder(tmp_path / "run")
    folder.write_config(config)
    assert run(config, folder, settings_beside(folder.path), only_probe=True).how == "probed"
    assert follow.state(folder.path).can_resume and losses(follow.history(folder.path)) == []
    ended, events = run_in(folder.path, config)
    assert ended.how == "finished" and len(losses(events)) == 2
    other = RunFolder(tmp_path / "other")
    other.write_config(config)
    run(config, other, settings_beside(other.path), only_probe=True)
    assert other.step_aside() is None and not other.path.exists()
