"""A run that was killed and taken up again equals one that was not, bit for bit."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.modules.module import register_module_forward_pre_hook

from pipelines.training.__main__ import main
from pipelines.training.events import CheckpointSaved, Ended, StepDone
from pipelines.training.run import follow
from pipelines.training.run.execute import run
from pipelines.training.run.folder import RunFolder
from pipelines.training.run.state import Checkpoints
from tests.pipelines.training.conftest import settings_beside

STEPS = 14


def killed_after_saving(config, folder: Path) -> None:
    """Run in a process of its own, and kill it two steps after its first state was saved."""
    process = follow.begin(config, folder, settings_beside(folder))
    saved = None
    for event in follow.follow(folder, poll_s=0.02):
        saved = event.step if isinstance(event, CheckpointSaved) and saved is None else saved
        if saved is not None and isinstance(event, StepDone) and event.step >= saved + 2:
            os.kill(process.pid, signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL, (folder / "output.log").read_text()


def same_states(one: Path, other: Path) -> None:
    """Compare everything in two states: weights, optimizer, average, counters."""
    for name in ("state.safetensors",):
        left, right = load_file(one / name), load_file(other / name)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left)
    tables = [json.loads((place / "state.json").read_text())["tree"] for place in (one, other)]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("changes", [
    {"method": "lora", "text_encoder": "attention+mlp", "dropout": 0.2, "ema": 0.9, "shuffle": True, "flip": True,
     "crop": "random", "caption_dropout": 0.3, "dora": True, "targets": "attention+ff+conv"},
    {"method": "full", "ema": 0.9, "optimizer": "adafactor", "accumulation": 2, "noise_offset": 0.1},
    {"precision": "bfloat16"},
], ids=["lora", "full", "attention written out"])
def test_killed_and_resumed_equals_a_straight_run_bit_for_bit(make_config, tmp_path, changes):
    config = make_config(steps=STEPS, save_every=5, validation=0.3, validate_every=4, **changes)
    straight, broken = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "broken")
    killed_after_saving(config, broken.path)
    assert follow.state(broken.path).how == "killed"

    straight.write_config(config)
    assert run(config, straight, settings_beside(straight.path)).how == "finished"
    assert run(config, broken, settings_beside(broken.path)).how == "finished"

    same_states(straight.checkpoints / f"step-{STEPS:07d}", broken.checkpoints / f"step-{STEPS:07d}")
    losses = [{event.step: event.loss for event in follow.history(folder.path) if isinstance(event, StepDone)}
              for folder in (straight, broken)]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS


def test_a_stopped_run_goes_on_where_it_stopped(make_config, tmp_path):
    config, folder = make_config(steps=STEPS), RunFolder(tmp_path / "run")
    process = follow.begin(config, folder.path, settings_beside(folder.path))
    for event in follow.follow(folder.path, poll_s=0.02):
        if isinstance(event, StepDone) and event.step == 2:
            process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    found = follow.state(folder.path)
    assert found.how == "stopped" and found.can_resume and 2 <= found.step < STEPS
    assert found.saved_step == found.step
    assert run(config, folder, settings_beside(folder.path)).how == "finished"
    straight = RunFolder(tmp_path / "straight")
    straight.write_config(config)
    run(config, straight, settings_beside(straight.path))
    same_states(straight.checkpoints / f"step-{STEPS:07d}", folder.checkpoints / f"step-{STEPS:07d}")


@pytest.fixture
def interruptible():
    """SIGINT as a terminal gives it; a shell's background jobs inherit that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_ends_at_once_and_says_what_is_lost(interruptible, make_config, tmp_path, capsys):
    file = tmp_path / "config.json.toml"
    config = make_config(steps=5)
    file.write_text("\n".join(f"{key} = {json.dumps(value)}"
                              for key, value in config.model_dump(exclude_defaults=True).items()))
    folder = RunFolder(Path(config.output) / "one-run")

    def in_the_third_step(module, inputs):
        if module.__class__.__name__ == "UNet2DConditionModel" and follow.state(folder.path).step == 2:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    handle = register_module_forward_pre_hook(in_the_third_step)
    try:
        assert main([str(file)]) == 130
    finally:
        handle.remove()
    found = follow.state(folder.path)
    assert (found.how, found.step, found.can_resume) == ("stopped", 2, True)
    assert found.text == "Stopped at once. The steps after 0 are lost."
    assert main([str(file), "--resume"]) == 0
    assert follow.state(folder.path).how == "finished"


def test_pause_saves_and_says_so(make_config, tmp_path):
    folder = tmp_path / "run"
    process = follow.begin(make_config(steps=500), folder, settings_beside(folder))
    for event in follow.follow(folder, poll_s=0.02):
        if isinstance(event, StepDone) and event.step == 1:
            follow.ask(folder, "pause")
        last = event
    assert process.wait() == 0
    assert isinstance(last, Ended) and last.how == "paused"
    assert Checkpoints(folder / "checkpoints", 3).steps() == [last.step]


def test_a_killed_run_without_a_state_is_told_truthfully(make_config, tmp_path):
    folder = tmp_path / "run"
    process = follow.begin(make_config(steps=500), folder, settings_beside(folder))
    for event in follow.follow(folder, poll_s=0.02):
        if isinstance(event, StepDone) and event.step == 2:
            os.kill(process.pid, signal.SIGKILL)
        last = event
    assert isinstance(last, Ended) and last.how == "killed"
    assert "killed" in last.text and "after 0 are lost" in last.text
    process.wait()


def test_two_processes_at_once_are_refused_on_one_run_folder(make_config, tmp_path):
    from pipelines.errors import StudioError

    folder = tmp_path / "run"
    config = make_config(steps=500)
    process = follow.begin(config, folder, settings_beside(folder))
    try:
        for event in follow.follow(folder, poll_s=0.02):
            if isinstance(event, StepDone):
                break
        with pytest.raises(StudioError, match="going on"):
            follow.resume(folder, settings_beside(folder))
        with pytest.raises(StudioError, match="another process"):
            run(config, RunFolder(folder), settings_beside(folder))
        assert follow.state(folder).how == "running"
    finally:
        process.kill()
        process.wait()
