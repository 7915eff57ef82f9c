"""Optimizers beside torch's own, each on a tiny model; what is not installed is said."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from pipelines.errors import RequestError
from pipelines.training.events import StepDone
from pipelines.training.numbers import optimizers
from tests.pipelines.training.run.test_loop import events_of


def needs(package: str):
    reason = f"{package} is not installed"
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=reason)


@pytest.mark.parametrize(("name", "rate"), [
    ("adamw", 1e-2), ("adafactor", 1e-2),
    pytest.param("prodigy", 1.0, marks=needs("prodigyopt")),
    pytest.param("adamw8bit", 1e-2, marks=needs("bitsandbytes"))])
def test_an_optimizer_learns_and_goes_on_from_its_state_bit_for_bit(make_loop, name, rate):
    # The rank is one at which the tensors are large enough to be kept in 8 bits.
    asked = {"optimizer": name, "learning_rate": rate, "warmup": 0.0, "scheduler": "constant", "rank": 128}
    list(make_loop(steps=2, **asked).train())
    then = make_loop(steps=4, **asked)
    assert then.resume() == 2
    later = [event.loss for event in events_of(then, StepDone)]
    whole = make_loop(steps=4, **asked)
    start = {key: tensor.clone() for key, tensor in whole.trainee.weights().items()}
    losses = [event.loss for event in events_of(whole, StepDone)]
    learned = whole.trainee.weights()
    assert any(not torch.equal(tensor, start[key]) for key, tensor in learned.items())
    assert all(tensor.isfinite().all() for tensor in learned.values())
    assert later == losses[2:]
    assert all(torch.equal(tensor, then.trainee.weights()[key]) for key, tensor in learned.items())


@pytest.mark.parametrize("name", optimizers.EXTRA)
def test_a_missing_package_is_named(make_config, name):
    module, _ = optimizers.EXTRA[name]
    package = module.partition(".")[0]
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(RequestError, match=f"needs the package {package}"):
        optimizers.make(make_config(optimizer=name), [])
