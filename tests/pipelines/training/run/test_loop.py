"""The loop on a tiny model, with faults injected into the real modules."""

from __future__ import annotations

import math
import resource

import pytest
import torch

from pipelines.errors import StudioError
from pipelines.training.events import Event, HeldOut, Notice, Skipped, StepDone
from pipelines.training.run import execute as runs
from pipelines.training.run.folder import RunFolder
from pipelines.training.run.follow import history
from pipelines.training.run.loop import Loop
from tests.pipelines.training.conftest import settings_beside
from tests.tiny import tiny_sd


def events_of(loop: Loop, kind: type) -> list[Event]:
    return [event for event in loop.train() if isinstance(event, kind)]


def test_clipping_clips_what_the_optimizer_sees(make_loop):
    loop = make_loop(max_grad_norm=0.01, steps=2)
    seen = []
    loop.optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append(torch.nn.utils.get_total_norm(
        [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]).item()))
    norms = [event.gradient_norm for event in events_of(loop, StepDone)]
    assert min(norms) > 0.011  # before clipping
    assert seen == pytest.approx([0.01, 0.01], rel=1e-3)


def test_only_the_lora_changes(make_loop):
    loop = make_loop(text_encoder="attention", steps=2)
    before = {name: tensor.clone() for part in (loop.base.unet, *loop.base.encoders.values())
              for name, tensor in part.state_dict().items()}
    start = {name: tensor.clone() for name, tensor in loop.trainee.weights().items()}
    list(loop.train())
    after = {name: tensor for part in (loop.base.unet, *loop.base.encoders.values())
             for name, tensor in part.state_dict().items()}
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    changed = [name for name, tensor in loop.trainee.weights().items() if not torch.equal(tensor, start[name])]
    assert any(name.startswith("unet.") for name in changed)
    assert any(name.startswith("text_encoder.") for name in changed)


def test_an_update_is_the_same_however_it_is_cut(make_loop):
    whole, parts = make_loop(batch_size=4, steps=3), make_loop(batch_size=1, accumulation=4, steps=3)
    left, right = events_of(whole, StepDone), events_of(parts, StepDone)
    assert [event.loss for event in left] == pytest.approx([event.loss for event in right], rel=1e-5)
    for name, tensor in whole.trainee.weights().items():  # Adam blows rounding up where a gradient is almost 0
        assert (tensor - parts.trainee.weights()[name]).abs().mean() < 1e-2 * tensor.abs().mean(), name


def test_out_of_memory_halves_the_micro_batch_and_keeps_the_updates(make_loop):
    plain, tight = make_loop(batch_size=4, steps=3), make_loop(batch_size=4, steps=3)

    def full(module, inputs):
        if inputs[0].shape[0] > 2:
            raise torch.OutOfMemoryError("no room")

    tight.base.unet.conv_in.register_forward_pre_hook(full)
    wanted = [event.loss for event in events_of(plain, StepDone)]
    events = list(tight.train())
    assert [event.loss for event in events if isinstance(event, StepDone)] == pytest.approx(wanted, rel=1e-5)
    assert tight.progress.micro_batch == 2
    assert any("2 pictures at once" in event.text for event in events if isinstance(event, Notice))


def test_out_of_memory_with_one_picture_turns_on_checkpointing_and_then_ends_with_a_state(make_loop):
    loop = make_loop(batch_size=1, steps=3)

    def full(module, inputs):
        raise torch.OutOfMemoryError("no room")

    handle = loop.base.unet.conv_in.register_forward_pre_hook(full)
    events = []
    with pytest.raises(StudioError, match="64 px"):
        for event in loop.train():
            events.append(event)
    assert any("checkpointing" in event.text for event in events if isinstance(event, Notice))
    assert loop.progress.checkpointing and loop.checkpoints.steps() == [0]
    handle.remove()
    assert len(events_of(loop, StepDone)) == 3  # and it works


def poison(loop: Loop, calls: set[int]) -> None:
    """Make the U-Net's output not a number at those calls, counted from 1."""
    count = 0

    def hook(module, inputs, output):
        nonlocal count
        if torch.is_grad_enabled():
            count += 1
        return output * math.nan if count in calls else output

    loop.base.unet.conv_out.register_forward_hook(hook)


def test_one_update_that_is_no_number_is_skipped_and_counted(make_loop):
    loop = make_loop(batch_size=1, steps=5)
    poison(loop, {2})
    events = list(loop.train())
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 3, 4, 5]
    assert [event for event in events if isinstance(event, Skipped)] == [Skipped(2, 1)]
    assert all(bool(tensor.isfinite().all()) for tensor in loop.trainee.weights().values())


def test_three_in_a_row_go_back_to_the_last_state_with_half_the_rate(make_loop):
    loop = make_loop(batch_size=1, steps=8, save_every=2, scheduler="constant", warmup=0.0)
    poison(loop, {4, 5, 6})
    events = list(loop.train())
    steps = [event.step for event in events if isinstance(event, StepDone)]
    assert steps == [1, 2, 3, 3, 4, 5, 6, 7, 8]
    rates = [event.learning_rate for event in events if isinstance(event, StepDone)]
    assert rates[0] == pytest.approx(2 * rates[-1])
    assert loop.progress.detour == 1 and loop.progress.skipped == 3


def test_a_run_that_stays_broken_ends_and_keeps_its_good_state(make_loop):
    loop = make_loop(batch_size=1, steps=30, save_every=2)
    poison(loop, set(range(4, 100)))
    with pytest.raises(StudioError, match="again and again"):
        list(loop.train())
    step, tree = loop.checkpoints.newest()
    assert step == 2
    assert all(bool(tensor.isfinite().all()) for tensor in tree["weights"].values())


def test_weights_that_are_no_numbers_are_never_saved(make_loop):
    loop = make_loop(batch_size=1, steps=4, save_every=2)
    spoiled = []

    def spoil(optimizer, *_):
        if len(spoiled) == 2:
            next(iter(loop.trainee.named.values())).data.fill_(math.inf)
        spoiled.append(1)

    loop.optimizer.register_step_post_hook(spoil)
    list(loop.train())
    for step in loop.checkpoints.steps():
        tree = loop.checkpoints.load(step)
        assert all(bool(tensor.isfinite().all()) for tensor in tree["weights"].values())


def test_held_out_loss_has_no_chance_in_it(make_loop):
    loop = make_loop(validation=0.4)
    assert loop.examples.held
    first, second = next(loop._measure()), next(loop._measure())
    assert isinstance(first, HeldOut) and first.loss == second.loss
    again = next(make_loop(validation=0.4)._measure())
    assert again.loss == first.loss


def test_a_full_disk_is_said_and_training_goes_on(make_config, tmp_path):
    """The system refuses files larger than a limit, as a full disk does, in the middle of the run."""
    config = make_config(steps=6, save_every=2)
    folder = RunFolder(tmp_path / "run")
    folder.write_config(config)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # a state has more, the log less
    try:
        ended = runs.run(config, folder, settings_beside(folder.path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    events = history(folder.path)
    assert len([event for event in events if isinstance(event, StepDone)]) == 6
    assert any("could not be saved" in event.text for event in events if isinstance(event, Notice))
    assert ended.how == "failed" and "can go on" in ended.text
    assert list(folder.checkpoints.iterdir()) == []  # nothing half-written is left
    assert runs.run(config, folder, settings_beside(folder.path)).how == "finished"


def test_min_snr_is_on_for_noise_and_off_for_velocity_unless_given(make_loop, tmp_path):
    velocity = str(tiny_sd(tmp_path / "velocity", prediction_type="v_prediction"))

    def first_loss(**changes) -> float:
        return events_of(make_loop(steps=1, batch_size=4, **changes), StepDone)[0].loss

    assert first_loss() == first_loss(min_snr_gamma=5.0) != first_loss(min_snr_gamma=0.0)
    assert first_loss(model=velocity) == first_loss(model=velocity, min_snr_gamma=0.0)
    assert first_loss(model=velocity) != first_loss(model=velocity, min_snr_gamma=5.0)
