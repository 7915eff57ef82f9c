"""What a run's events become on the page."""

from __future__ import annotations

from pipelines.training.events import CheckpointSaved, Ended, HeldOut, Notice, SampleSaved, Skipped, StepDone
from pipelines.training.follow import RunState
from ui import curves


def steps(count):
    return [StepDone(i, count, 1.0 / i, 1e-4, 0.5, 2.0, (count - i) / 2) for i in range(1, count + 1)]


def test_the_status_line_says_step_speed_and_time_left():
    line = curves.status_line(RunState("running", 120, 450), steps(450)[:120])
    assert line == "Training: step 120 of 450 · 2.0 it/s · 2 min 45 s left"


def test_the_status_line_of_an_ended_run_says_how_it_ended():
    line = curves.status_line(RunState("killed", 7, 10, text="It was killed."), [])
    assert line == "Broken off: step 7 of 10 · It was killed."


def test_long_curves_are_thinned_and_keep_their_ends():
    frame = curves.loss_frame([*steps(5_000), HeldOut(100, 0.3, True)])
    training = frame[frame["curve"] == "training, smoothed"]
    assert len(training) <= curves.POINTS + 2 and training["step"].iloc[-1] == 5_000
    assert frame[frame["curve"] == "held out"]["loss"].tolist() == [0.3]


def test_the_smoothed_loss_moves_slowly():
    frame = curves.loss_frame([StepDone(1, 2, 1.0, 0, 0, 1, 1), StepDone(2, 2, 0.0, 0, 0, 1, 0)])
    assert frame["loss"].tolist() == [1.0, 1.0 - curves.SMOOTHING]


def test_samples_that_lie_on_disk_are_shown_newest_first(tmp_path):
    for step in (1, 2):
        (tmp_path / f"{step}.png").write_bytes(b"x")
    log = [SampleSaved(1, "1.png", "a cat", 1), SampleSaved(2, "2.png", "a dog", 1), SampleSaved(3, "3.png", "gone", 1)]
    assert [caption for _, caption in curves.samples(log, tmp_path)] == ["step 2: a dog", "step 1: a cat"]


def test_the_result_stands_before_its_checkpoints():
    log = [CheckpointSaved(5, "checkpoints/step-5", "checkpoints/step-5/ink-000005.safetensors"),
           CheckpointSaved(10, "checkpoints/step-10", "checkpoints/step-10/ink-000010.safetensors")]
    assert curves.weights(log, "ink") == ["ink-000010", "ink-000005"]
    assert curves.weights([*log, Ended(10, "finished", "", "ink.safetensors")], "ink")[0] == "ink"


def test_skipped_updates_are_told():
    assert curves.notices([Notice(1, "a"), Skipped(2, 3)]) == \
        "a\n3 updates were left out, because their loss was no finite number."
