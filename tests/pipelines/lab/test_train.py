"""Training from scratch: its loss, its budget, stopping, exact resuming, sampling, and what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import digits
from pipelines.diffusion import noise_schedules
from pipelines.errors import ModelError, RequestError, StudioError
from pipelines.lab import checkpoints, draw, learner, train
from pipelines.lab.__main__ import main
from pipelines.lab.events import EpochDone, Started, Trained, Update
from pipelines.lab.requests import Sample, Train
from pipelines.queue.control import Control
from pipelines.requests import make

SMALL = {"width": 16, "batch_size": 6, "samples": 2, "timesteps": 50, "epochs": 3}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Sixteen 8 px pictures in two classes, dark and bright."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(16):
        kind = "bright" if i % 2 else "dark"
        (folder / kind).mkdir(exist_ok=True)
        level = np.random.default_rng(i).integers(0, 60, (8, 8, 3)) + (190 if i % 2 else 0)
        Image.fromarray(level.astype(np.uint8)).save(folder / kind / f"{i}.png")
    return folder


def request(pictures: Path, output: Path, **values) -> Train:
    return make(Train, **{"data": str(pictures), "side": 8, "output": str(output), **SMALL, **values})


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = checkpoints.read(folder)
    return {**{f"network.{k}": v for k, v in state["network"].items()},
            **{f"averaged.{k}": v for k, v in state["averaged"].items()}}


def same(first: Path, second: Path) -> bool:
    one, two = weights(first), weights(second)
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_folder_belongs_to_the_process_that_trains_in_it(pictures, tmp_path):
    first = train.run(request(pictures, tmp_path / "run"))
    assert isinstance(next(first), Started)
    with pytest.raises(RequestError, match="another process is training in this folder"):
        next(train.run(request(pictures, tmp_path / "run")))
    first.close()
    assert isinstance(next(train.run(request(pictures, tmp_path / "run"))), Started)


def test_a_run_reports_every_update_and_epoch_and_leaves_samples_log_and_checkpoint(pictures, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = list(train.run(request(pictures, tmp_path / "run")))
    assert isinstance(events[0], Started)
    assert (events[0].pictures, events[0].held_out) == (14, 2)
    updates = [one for one in events if isinstance(one, Update)]
    epochs = [one for one in events if isinstance(one, EpochDone)]
    assert [one.step for one in updates] == list(range(1, 10))  # 14 pictures in batches of 6, three times
    assert [one.epoch for one in epochs] == [1, 2, 3]
    assert epochs[1].loss == pytest.approx(np.mean([one.loss for one in updates[3:6]]))
    assert all(math.isfinite(one.held_out_loss) and one.samples is not None for one in epochs)
    assert events[-1] == Trained(3, 9, stopped=False)
    assert updates[-1].learning_rate < updates[2].learning_rate
    assert epochs[-1].seconds_left == 0
    run = tmp_path / "run"
    assert [path.name for path in sorted((run / "samples").iterdir())] == [f"epoch-000{i}.png" for i in (1, 2, 3)]
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [one.loss for one in epochs]
    assert not list(run.glob("*.part"))
    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    logged = {"loss": [one.loss for one in epochs], "held_out_loss": [one.held_out_loss for one in epochs],
              "learning_rate": [updates[i].learning_rate for i in (2, 5, 8)]}
    for name, values in logged.items():
        assert [(point.step, point.value) for point in board.Scalars(name)] == [
            (step, pytest.approx(value)) for step, value in zip((3, 6, 9), values, strict=True)]


@pytest.mark.parametrize(("network", "prediction"), [
    ("context", "v"), ("context", "x0"), ("context", "noise"), ("attention", "v"), ("unet2d", "noise")])
def test_every_network_learns_under_every_prediction(pictures, tmp_path, network, prediction):
    learned = request(pictures, tmp_path / "run", network=network, prediction=prediction, epochs=25, samples=0,
                      learning_rate=5e-3)
    epochs = [one for one in train.run(learned) if isinstance(one, EpochDone)]
    assert np.mean([one.loss for one in epochs[-5:]]) < 0.8 * epochs[0].loss


@pytest.mark.parametrize("values", [
    {"loss": "l1"}, {"loss": "huber"}, {"decay": "linear"}, {"decay": "constant"}, {"precision": "bfloat16"},
    {"accumulation": 2}, {"ema": 0.0}, {"validation": 0.0}, {"schedule": "flow"}, {"samples": 0}], ids=str)
def test_every_setting_runs(pictures, tmp_path, values):
    *_, end = train.run(request(pictures, tmp_path / "run", **{"epochs": 1, **values}))
    assert end.epoch == 1
    assert end.step == (2 if "accumulation" in values else 3)


def test_without_ema_the_averaged_weights_are_the_weights(pictures, tmp_path):
    list(train.run(request(pictures, tmp_path / "run", ema=0.0, epochs=1)))
    state = checkpoints.read(tmp_path / "run")
    assert all(torch.equal(state["network"][name], value) for name, value in state["averaged"].items())


@pytest.mark.parametrize("stop_after", [3, 4, 8])
def test_a_stopped_and_resumed_run_ends_with_the_weights_of_an_unbroken_one(pictures, tmp_path, stop_after):
    list(train.run(request(pictures, tmp_path / "whole")))
    control = Control()
    for event in train.run(request(pictures, tmp_path / "broken"), control):
        if isinstance(event, Update) and event.step == stop_after:
            control.stop.set()
    assert event.stopped and event.step == stop_after
    assert not same(tmp_path / "whole", tmp_path / "broken")
    *_, end = train.run(make(Train, output=str(tmp_path / "broken"), resume=True))
    assert end == Trained(3, 9, stopped=False)
    assert same(tmp_path / "whole", tmp_path / "broken")


def test_a_run_killed_within_an_epoch_goes_on_from_the_last_finished_one(pictures, tmp_path):
    list(train.run(request(pictures, tmp_path / "whole")))
    events = train.run(request(pictures, tmp_path / "killed"))
    for event in events:
        if isinstance(event, Update) and event.step == 5:
            break
    events.close()
    (tmp_path / "killed" / "checkpoint.pt.part").write_bytes(b"half a file")
    assert checkpoints.read(tmp_path / "killed")["epoch"] == 1
    list(train.run(make(Train, output=str(tmp_path / "killed"), resume=True)))
    assert same(tmp_path / "whole", tmp_path / "killed")


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(pictures, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        list(train.run(request(pictures, tmp_path / name, seed=seed, epochs=1)))
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")


def test_accumulated_batches_make_the_gradient_of_one_large_batch(pictures, tmp_path):
    """The weights after one update, by stochastic gradient descent on the sums, which the two ways share."""
    from pipelines.lab.data import load

    tiny = load(str(pictures), 8)
    gradients = []
    for values in ({"batch_size": 14}, {"batch_size": 14, "accumulation": 1}, {"batch_size": 7, "accumulation": 2}):
        one = learner.Learner(request(pictures, tmp_path, class_dropout=0.0, **values), tiny, torch.device("cpu"))
        caught = {}
        one.optimizer.step = lambda one=one, caught=caught: caught.update(
            {name: p.grad.clone() for name, p in one.network.named_parameters() if p.grad is not None})
        one.generator.manual_seed(5)
        one.update(0.0)
        gradients.append(caught)
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
    # Two halves draw other noise than one whole, so only the size of the gradient can be compared.
    lengths = [math.sqrt(sum(float(g.square().sum()) for g in caught.values())) for caught in gradients]
    assert lengths[2] == pytest.approx(lengths[0], rel=0.5)


def test_a_run_of_minutes_ends_in_time_and_its_rate_follows_the_clock(pictures, tmp_path, monkeypatch):
    ticks = count(step=0.02)  # seconds for each look at the clock, however busy the machine is
    monkeypatch.setattr(train, "perf_counter", lambda: next(ticks))
    short = request(pictures, tmp_path / "run", epochs=None, minutes=0.05, samples=0, decay="linear")
    events = list(train.run(short))
    updates = [one for one in events if isinstance(one, Update)]
    assert checkpoints.read(tmp_path / "run")["elapsed_s"] == pytest.approx(3, abs=0.2)
    assert updates[-1].learning_rate < 0.2 * short.learning_rate
    assert updates[0].seconds_left <= 3


def test_the_loss_is_equation_14_computed_by_hand():
    schedule, x0 = noise_schedules.make("linear", 100), torch.rand(4, 1, 8, 8) * 2 - 1
    seen = []

    def network(x_t, t, context):
        seen.append((x_t, t))
        return torch.zeros_like(x_t)

    value = learner.loss_of(network, schedule, "noise", "mse", x0, None, torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(9)
    t = torch.randint(100, (4,), generator=generator)
    noise = torch.randn(x0.shape, generator=generator)
    abar = schedule.alphas_cumprod[t].float().view(-1, 1, 1, 1)
    assert torch.allclose(seen[0][0], abar.sqrt() * x0 + (1 - abar).sqrt() * noise, atol=1e-6)
    assert torch.equal(seen[0][1], t)
    assert float(value) == pytest.approx(float(noise.square().mean()), rel=1e-5)


def test_the_learning_rate_rises_and_falls_as_asked(pictures, tmp_path):
    cosine = request(pictures, tmp_path)
    assert learner.learning_rate(cosine, 0, 0.0) == pytest.approx(cosine.learning_rate / 50)
    assert learner.learning_rate(cosine, 99, 0.5) == pytest.approx(cosine.learning_rate / 2)
    assert learner.learning_rate(cosine, 99, 1.0) == pytest.approx(0)
    assert learner.learning_rate(request(pictures, tmp_path, decay="linear"), 99, 0.25) == pytest.approx(0.0015)


def test_a_learning_rate_of_a_million_is_refused_and_one_that_diverges_is_said(pictures, tmp_path):
    with pytest.raises(RequestError, match="Learning rate: 1000000.* is not possible.*less than or equal to 1"):
        request(pictures, tmp_path / "run", learning_rate=1e6)
    events = train.run(request(pictures, tmp_path / "run", learning_rate=1.0, decay="constant"))
    first = next(event for event in events if isinstance(event, Update))
    assert first.loss < learner.DIVERGED
    # Whether so high a rate diverges by itself, and when, is a matter of rounding: the weights are put far off here.
    for weight in events.gi_frame.f_locals["learner"].network.parameters():
        weight.data.mul_(1000)
    with pytest.raises(StudioError, match="out of bounds at update 2 .* A learning rate below 1 "):
        list(events)


def test_not_a_number_ends_training_with_a_sentence(pictures, tmp_path):
    events = train.run(request(pictures, tmp_path / "run"))
    learning = None
    for event in events:
        if isinstance(event, Update):
            learning = events.gi_frame.f_locals["learner"]
            learning.network.stem.weight.data[0, 0, 0, 0] = math.nan
            break
    with pytest.raises(StudioError, match="out of bounds at update 2 .loss nan.*below 0.002"):
        list(events)


@pytest.mark.parametrize(("values", "message"), [
    ({"timesteps": 1}, "Timesteps: 1 is not possible"), ({"epochs": 0}, "Epochs: 0 is not possible"),
    ({"side": 12}, "Side .px.: 12 is not possible"), ({"network": "gan"}, "Network: 'gan' is not possible"),
    ({"learning_rate": math.nan}, "Learning rate: nan is not possible"),
    ({"schedule": "flow", "prediction": "noise"}, "the last step is noise alone")])
def test_impossible_values_are_refused_by_name(pictures, tmp_path, values, message):
    with pytest.raises(RequestError, match=message):
        request(pictures, tmp_path / "run", **values)


def test_levels_that_do_not_fit_the_side_and_float16_without_a_card_are_refused(pictures, tmp_path):
    with pytest.raises(RequestError, match="Levels: 5 do not fit pictures of 8 px"):
        list(train.run(request(pictures, tmp_path / "run", levels=5)))
    if not torch.cuda.is_available():
        with pytest.raises(RequestError, match="float16 needs a CUDA card"):
            list(train.run(request(pictures, tmp_path / "run", precision="float16")))


def test_a_folder_that_holds_a_run_is_not_overwritten_and_a_resume_may_not_change_it(pictures, tmp_path):
    list(train.run(request(pictures, tmp_path / "run", epochs=1)))
    with pytest.raises(RequestError, match="holds a run already"):
        list(train.run(request(pictures, tmp_path / "run")))
    with pytest.raises(RequestError, match="Batch size: this run was begun with 6; 7 would make another one"):
        list(train.run(make(Train, output=str(tmp_path / "run"), resume=True, batch_size=7)))
    *_, end = train.run(make(Train, output=str(tmp_path / "run"), resume=True, epochs=2))
    assert end.epoch == 2


def test_a_run_does_not_go_on_with_other_pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / f"{i}.png")
    list(train.run(request(folder, tmp_path / "run", epochs=1)))
    *_, end = train.run(make(Train, output=str(tmp_path / "run"), resume=True, epochs=2))
    assert end.epoch == 2
    Image.new("RGB", (8, 8), (200, 0, 0)).save(folder / "3.png")
    with pytest.raises(RequestError, match="the pictures have changed"):
        list(train.run(make(Train, output=str(tmp_path / "run"), resume=True, epochs=3)))


def test_resuming_nothing_and_a_damaged_checkpoint_are_said(tmp_path):
    with pytest.raises(ModelError, match="no finished epoch"):
        list(train.run(make(Train, output=str(tmp_path), resume=True)))
    (tmp_path / checkpoints.FILE).write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(ModelError, match="damaged"):
        checkpoints.load_model(tmp_path)


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "two-classes"
    list(train.run(request(pictures, folder, epochs=40, learning_rate=5e-3, samples=0)))
    return folder


def mean_of(image: Image.Image) -> float:
    return float(np.asarray(image, float).mean())


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_samples_have_the_class_that_was_asked_for(trained, sampler):
    model = checkpoints.load_model(trained)
    assert model.classes == ("bright", "dark")
    bright, dark = (
        [one.image for one in draw.draw(Sample(label=name, count=4, sampler=sampler, steps=10), model)]
        for name in model.classes)
    assert min(map(mean_of, bright)) > max(map(mean_of, dark)) + 60


def test_a_sample_depends_on_its_own_seed_alone(trained):
    model = checkpoints.load_model(trained)
    asked = Sample(label="0", count=5, steps=5, eta=0.5, batch_size=5, seed=7)
    together = list(draw.draw(asked, model))
    assert [one.seed for one in together] == [7, 8, 9, 10, 11]
    alone = next(draw.draw(Sample(label="0", count=1, steps=5, eta=0.5, seed=9), model))
    apart = np.abs(np.asarray(together[2].image, int) - np.asarray(alone.image, int))
    assert apart.max() <= 1


def test_the_ddim_and_class_mix_that_are_asked_for_are_drawn(trained):
    model = checkpoints.load_model(trained)
    levels = [np.mean([mean_of(one.image) for one in draw.draw(
        Sample(label=label, count=4, steps=8, guidance_scale=1.0), model)]) for label in ("0", "0:0.5,1:0.5", "1")]
    assert levels[0] > levels[1] > levels[2]


@pytest.mark.parametrize(("label", "message"), [
    ("7", "Class: '7' is unknown. Known are bright, dark"), ("grey", "Class: 'grey' is unknown"),
    ("0:x", "Class: the weight 'x' is not possible"), ("0:nan", "Class: the weight 'nan' is not possible")])
def test_an_unknown_class_or_weight_is_refused_by_name(trained, label, message):
    with pytest.raises(RequestError, match=message):
        list(draw.draw(Sample(label=label), checkpoints.load_model(trained)))


def test_a_model_without_classes_refuses_a_class(trained):
    model = replace(checkpoints.load_model(trained), classes=())
    with pytest.raises(RequestError, match="trained without classes"):
        draw.class_weights("1", model.classes)


def test_the_command_line_trains_resumes_and_samples(pictures, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    flags = ["--width", "16", "--side", "8", "--batch-size", "6", "--timesteps", "50", "--samples", "0"]
    assert main(["train", "--data", str(pictures), "--output", str(run), "--epochs", "1", *flags]) == 0
    assert "Done after 1 epochs, 3 updates" in capsys.readouterr().out
    assert main(["train", "--output", str(run), "--resume", "--epochs", "2"]) == 0
    assert "1 epochs done before" in capsys.readouterr().out
    assert main(["sample", str(run), "--class", "1", "--count", "3", "--sampler", "ddim", "--steps", "4",
                 "--seed", "5", "--output", str(out)]) == 0
    files = sorted(out.iterdir())
    assert [file.name for file in files] == ["0000-5.png", "0001-6.png", "0002-7.png"]
    assert {Image.open(file).size for file in files} == {(64, 64)}


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path, capsys):
    assert main(["train", "--output", str(tmp_path / "run"), "--learning-rate", "1e6"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Learning rate: ") and error.count("\n") == 1
    assert main(["train", "--output", str(tmp_path / "run"), "--data", str(tmp_path)]) == 1
    assert "no pictures" in capsys.readouterr().err
    assert main(["sample", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    assert "no finished epoch" in capsys.readouterr().err


def test_help_names_every_parameter(capsys):
    for command, cls in (("train", Train), ("sample", Sample)):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = capsys.readouterr().out
        flags = {"--class" if name == "label" else "--" + name.replace("_", "-") for name in cls.model_fields}
        assert not [flag for flag in flags if flag not in text]


@pytest.mark.slow
def test_three_minutes_on_the_digits_give_samples_that_a_classifier_recognises(tmp_path):
    run = digits.trained(tmp_path / "run", minutes="3")
    assert np.mean(digits.recognised(run, tmp_path / "drawn")) >= digits.PROMISE
