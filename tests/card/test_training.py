"""Training where a card has little room: what is told before the first step, and what a run survives."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch

from pipelines.errors import OutOfMemory
from pipelines.models.optimizer_state import state_bytes
from pipelines.training.events import Forecast, Notice, SampleSaved, StepDone
from pipelines.training.run.folder import RunFolder
from pipelines.training.run.probe import probe
from pipelines.training.run.sample_prompts import parse
from pipelines.training.run.sampling import Samples
from tests.card import pretend
from tests.pipelines.training.run.test_execute import run_in

FULL = {"method": "full", "ema": 0.0, "batch_size": 1, "steps": 2, "text_encoder": "off"}


@contextmanager
def out_of_memory_in(network, calls):
    """Let the first calls of a network's encoder find the card full."""
    left = [calls]

    def full(module, inputs):
        left[0] -= 1
        if left[0] >= 0:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    hook = network.register_forward_pre_hook(full)
    try:
        yield left
    finally:
        hook.remove()


def forecast_of(loop):
    (forecast,) = [event for event in probe(loop, 0) if isinstance(event, Forecast)]
    return forecast


def test_the_forecast_holds_the_optimizers_states_and_a_run_for_which_there_is_no_room_is_refused(make_loop):
    loop = make_loop(**FULL)
    begin = torch.cuda.memory_allocated()
    forecast = forecast_of(loop)
    assert forecast.room_bytes == torch.cuda.mem_get_info()[1]
    state = state_bytes("adamw", loop.trainee.parameters)
    with pretend.limited(forecast.peak_bytes - begin - state / 2), pytest.raises(OutOfMemory, match="adamw keeps"):
        list(probe(loop, 0))
    loop.progress.checkpointing = False
    torch.cuda.reset_peak_memory_stats()
    with pretend.limited(forecast.peak_bytes * 1.02 - begin):  # and what is told to fit does
        list(loop.train())
    assert loop.progress.step == 2 and not loop.progress.checkpointing
    assert torch.cuda.max_memory_allocated() == pytest.approx(forecast.peak_bytes, rel=0.02)


def test_an_optimizer_that_finds_no_room_at_its_first_step_says_so_and_what_helps(make_loop):
    loop = make_loop(**FULL)
    begin = torch.cuda.memory_allocated()
    forecast = forecast_of(loop)
    state = state_bytes("adamw", loop.trainee.parameters)
    room = max(forecast.peak_bytes - state - begin, state * 0.6)
    with pretend.limited(room), pytest.raises(OutOfMemory, match="what the optimizer adamw keeps"):
        for event in loop.train():
            assert not isinstance(event, StepDone)


def test_a_picture_without_room_is_encoded_with_the_unet_aside_and_then_in_tiles(make_loop):
    loop = make_loop(steps=1)
    examples, base = loop.examples, loop.base
    whole = [examples._latents.get(one.picture, one.boxes[0], one.bucket, False)["mean"] for one in examples.trained]
    examples._latents._cache._kept.clear()
    examples.room._left = [examples.room._move_unet, examples.room._tile]
    with out_of_memory_in(base.vae.encoder, 1):
        list(examples.prepare())
    assert base.unet.device.type == "cpu" and not examples.room.in_tiles
    again = [examples._latents.get(one.picture, one.boxes[0], one.bucket, False)["mean"] for one in examples.trained]
    assert all(torch.equal(first, second) for first, second in zip(whole, again, strict=True))
    examples._latents._cache._kept.clear()
    with out_of_memory_in(base.vae.encoder, 1):
        list(examples.prepare())
    assert examples.room.in_tiles and not base.vae.use_tiling and len(examples.room.told) == 2
    base.park(text_too=True)
    assert base.unet.device.type == "cuda" and base.vae.device.type == "cpu"
    assert [event.step for event in loop.train() if isinstance(event, StepDone)] == [1]
    examples._latents._cache._kept.clear()
    with out_of_memory_in(base.vae.encoder, 9), pytest.raises(OutOfMemory, match="0.png: not enough memory"):
        list(examples.prepare())


def test_going_back_takes_no_room_beside_what_there_is(make_loop):
    loop = make_loop(**{**FULL, "ema": 0.9, "steps": 1})
    list(loop.train())
    weights = {name: tensor.clone().cpu() for name, tensor in loop.trainee.weights().items()}
    with torch.no_grad():
        loop.trainee.parameters[0].fill_(float("nan"))
    held = torch.cuda.memory_allocated()
    largest = max(tensor.nbytes for tensor in weights.values())
    with pretend.limited(2 * largest):
        (told,) = loop._roll_back()
        assert isinstance(told, Notice) and "back to step 1" in told.text
        with loop.trainee.showing(loop.average.weights):  # nor do the averaged weights
            pass
    assert torch.cuda.memory_allocated() <= held
    assert all(torch.equal(tensor.cpu(), weights[name]) for name, tensor in loop.trainee.weights().items())


def test_a_sample_without_room_is_said_and_the_run_goes_on(make_loop, tmp_path):
    loop = make_loop(steps=1)
    (tmp_path / "run").mkdir()
    samples = Samples(loop.base, loop.config, RunFolder(tmp_path / "run"), [parse("a cat"), parse("a dog")])
    loop.base.park(text_too=True)
    with pretend.limited(1000):
        told = list(samples.draw(1))
    assert [event.text for event in told] == ["A sample could not be made: not enough memory."] * 2
    assert loop.base.vae.device.type == "cpu"
    assert [type(event) for event in samples.draw(1)] == [SampleSaved] * 2


def test_a_whole_run_ends_well_on_a_card(make_config, tmp_path):
    wanted = {"ema": 0.9, "steps": 1, "sample_every": 1, "validation": 0.3, "keep_best": True}
    ended, events = run_in(tmp_path / "run", make_config(**{**FULL, **wanted}))
    assert ended.how == "finished", ended
    assert any(isinstance(event, SampleSaved) for event in events)
