"""Saved states: whole or not there, read back as they were, the old ones kept until the new one is safe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipelines.errors import StudioError
from pipelines.training.numbers.tensors import DTYPES, write_tensors
from pipelines.training.run.state import Checkpoints


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", keep_last=2)


def tree(number: float) -> dict:
    return {"weights": {"a.down": torch.full((2, 3), number)}, "average": None,
            "optimizer": {"state": {0: {"step": torch.tensor(number), "exp_avg": [torch.ones(1), 2]}}}}


def fail(folder: Path) -> None:
    raise OSError(28, "No space left on device")


def test_numbers_as_keys_lists_and_nothing_come_back_as_they_were(checkpoints):
    checkpoints.save(7, tree(7.0))
    step, found = checkpoints.newest()
    assert step == 7 and found["average"] is None
    assert torch.equal(found["weights"]["a.down"], torch.full((2, 3), 7.0))
    moment = found["optimizer"]["state"][0]["exp_avg"]
    assert torch.equal(moment[0], torch.ones(1)) and moment[1] == 2


@pytest.mark.parametrize("spoil", [
    lambda file: file.write_bytes(file.read_bytes()[:-1]), lambda file: file.unlink(),
    lambda file: file.write_bytes(file.read_bytes()[:-4] + b"\1\2\3\4")], ids=["cut off", "gone", "other bytes"])
def test_a_damaged_state_is_named_and_the_one_before_it_is_taken(checkpoints, spoil):
    checkpoints.save(1, tree(1.0))
    folder = checkpoints.save(2, tree(2.0))
    spoil(folder / "state.safetensors")
    with pytest.raises(StudioError, match="step-0000002: this saved state is damaged"):
        checkpoints.load(2)
    assert checkpoints.newest()[0] == 1


def test_old_states_go_only_when_the_new_one_is_whole(checkpoints):
    for step in (1, 2):
        checkpoints.save(step, tree(step))
    with pytest.raises(OSError, match="No space"):
        checkpoints.save(3, tree(3.0), fail)
    assert checkpoints.steps() == [1, 2]
    assert sorted(path.name for path in checkpoints.path(1).parent.iterdir()) == ["step-0000001", "step-0000002"]
    checkpoints.save(3, tree(3.0))
    assert checkpoints.steps() == [2, 3]
    checkpoints.save(4, tree(4.0), keep=[2])
    assert checkpoints.steps() == [2, 3, 4]  # the best, and the newest two


def test_a_step_that_is_saved_again_replaces_what_was_there(checkpoints):
    checkpoints.save(5, tree(1.0))
    checkpoints.save(5, tree(2.0), lambda folder: (folder / "weights").touch())
    assert torch.equal(checkpoints.load(5)["weights"]["a.down"], torch.full((2, 3), 2.0))
    assert [path.name for path in checkpoints.path(5).parent.iterdir()] == ["step-0000005"]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))
def test_tensors_of_every_format_and_shape_are_read_back_by_the_library(tmp_path, dtype):
    written = {"one": torch.arange(6).view(2, 3).to(dtype), "none": torch.empty(0, 4, dtype=dtype),
               "scalar": torch.ones((), dtype=dtype), "turned": torch.arange(6).view(2, 3).to(dtype).T}
    write_tensors(tmp_path / "x.safetensors", written)
    found = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(found[name], tensor) and found[name].dtype == dtype for name, tensor in written.items())
