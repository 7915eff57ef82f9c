"""What a run's events become on the page."""

from __future__ import annotations

import pandas as pd
import pytest

from pipelines.training.events import CheckpointSaved, Ended, Forecast, HeldOut, Notice, SampleSaved, Skipped, StepDone
from pipelines.training.run.follow import RunState
from ui.results import curves


def steps(count):
    return [StepDone(i, count, 1.0 / i, 1e-4, 0.5, 2.0, (count - i) / 2) for i in range(1, count + 1)]


def test_the_status_line_says_step_speed_and_time_left():
    line = curves.status_line(RunState("running", 120, 450), steps(450)[:120])
    assert line == "Training: step 120 of 450 · 2.0 it/s · 2 min 45 s left"


def test_the_status_line_of_an_ended_run_says_how_it_ended():
    line = curves.status_line(RunState("killed", 7, 10, text="It was killed."), [])
    assert line == "Broken off: step 7 of 10 · It was killed."


def test_a_run_that_waits_says_behind_how_many():
    assert curves.status_line(RunState("waiting", 3, 10, 3, before=1), []) == "Waiting: 1 job before this one"
    assert curves.status_line(RunState("new", text="Resume begins it."), []) == "Not begun · Resume begins it."
    assert curves.signature(RunState("waiting", before=2), []) != curves.signature(RunState("waiting", before=1), [])


def test_long_curves_are_thinned_and_keep_their_ends():
    frame = curves.frame([*steps(5_000), HeldOut(100, 0.3, True)], curves.LOSS)
    training = frame[frame["curve"] == "training, smoothed"]
    assert len(training) <= curves.POINTS + 2 and training["step"].iloc[-1] == 5_000
    assert frame[frame["curve"] == "held out"]["value"].tolist() == [0.3]


def test_the_smoothed_loss_moves_slowly_and_the_raw_one_is_there_too():
    log = [StepDone(1, 2, 1.0, 1e-4, 3.0, 1, 1), StepDone(2, 2, 0.0, 1e-5, 4.0, 1, 0)]
    values = {name: list(rows["value"]) for name, rows in curves.frame(log, "Loss, each step").groupby("curve")}
    assert values == {"training": [1.0, 0.0], "training, smoothed": [1.0, 1.0 - curves.SMOOTHING]}
    assert curves.frame(log, "Learning rate")["value"].tolist() == [1e-4, 1e-5]
    assert curves.frame(log, "Gradient norm")["value"].tolist() == [3.0, 4.0]


def test_every_curve_of_a_run_that_has_not_begun_is_empty_and_typed():
    for what in curves.CURVES:
        frame = curves.frame([], what)
        assert frame["value"].isna().all() and [str(frame[name].dtype) for name in ("step", "value")] == ["float64"] * 2


def test_the_forecast_is_told_in_words():
    forecast = Forecast(0, 0.25, 250.0, 1_100_000_000, 12_400_000_000, 8, False)
    line = curves.forecast_line(RunState("probed"), [forecast])
    assert line == "Forecast: 0.25 s a step, 8 pictures at once, 1.1 of 12.4 GB; all steps take about 4 min 10 s."
    assert ", done at " in curves.forecast_line(RunState("running"), [forecast])
    assert curves.forecast_line(RunState("running"), []) == ""


def test_samples_that_lie_on_disk_are_a_grid_of_steps_and_prompts(tmp_path):
    log = []
    for step in (1, 2):
        for number, prompt in enumerate(("a cat", "a dog")):
            (tmp_path / f"{step}-{number}.png").write_bytes(b"x")
            log.append(SampleSaved(step, f"{step}-{number}.png", prompt, 1))
    pictures, prompts = curves.samples([*log, SampleSaved(3, "3.png", "gone", 1)], tmp_path)
    assert [caption for _, caption in pictures] == ["step 2: a cat", "step 2: a dog", "step 1: a cat", "step 1: a dog"]
    assert prompts == 2
    half = [*log, SampleSaved(4, "1-0.png", "a cat", 1)]
    assert [caption for _, caption in curves.samples(half, tmp_path)[0]][0] == "step 2: a cat"  # no full row yet
    assert curves.samples(half[:1], tmp_path)[1] == 1


def test_the_result_stands_before_its_checkpoints():
    log = [CheckpointSaved(5, "checkpoints/step-5", "checkpoints/step-5/ink-000005.safetensors"),
           CheckpointSaved(10, "checkpoints/step-10", "checkpoints/step-10/ink-000010.safetensors")]
    assert curves.weights(log, "ink") == ["ink-000010", "ink-000005"]
    assert curves.weights([*log, Ended(10, "finished", "", "ink.safetensors")], "ink")[0] == "ink"


def test_skipped_updates_are_told():
    assert curves.notices([Notice(1, "a"), Skipped(2, 3)]) == \
        "a\n3 updates were left out, because their loss was no finite number."


@pytest.mark.parametrize("what", curves.CURVES)
@pytest.mark.parametrize("log", [[], [HeldOut(0, 0.5, True)], [*steps(3), HeldOut(3, 0.4, True)]])
def test_a_plot_has_the_same_names_and_their_colours_however_far_the_run_is(what, log):
    frame = curves.frame(log, what)
    names = {"Loss": {"training, smoothed", "held out"}, "Loss, each step": {"training", "training, smoothed"}}
    assert set(frame["curve"]) == names.get(what, {what.lower()})
    assert set(frame["curve"]) <= curves.COLOUR_OF.keys()
    assert frame["value"].notna().sum() == frame["step"].notna().sum()


def test_every_curve_has_a_colour_of_its_own_and_keeps_it_when_others_come():
    few, more = (pd.DataFrame({"curve": names}) for names in (["a", "a", "b"], ["a", "b", "c"]))
    assert len(set(curves.colours(more).values())) == 3
    assert curves.colours(more).items() >= curves.colours(few).items() and list(curves.colours(few)) == ["a", "b"]
