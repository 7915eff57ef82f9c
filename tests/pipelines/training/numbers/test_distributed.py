"""Two processes at one run agree on sums and words; one alone is a team of one."""

from __future__ import annotations

import multiprocessing
import sys

import pytest
import torch

from pipelines.training.numbers import distributed
from pipelines.training.numbers.distributed import Team, join


def test_one_process_alone_changes_nothing(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    team, device = join("cpu")
    weights = [torch.ones(3)]
    team.sum(weights)
    assert (team.leads, team.any(False), team.any(True), team.agree(5), device) == (True, False, True, 5, "cpu")
    assert weights[0].tolist() == [1, 1, 1]
    team.leave()


def _take_part(rank: int, store: str, pipe) -> None:
    distributed.BUNDLE = 4  # so that the tensors below need several bundles
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    team = Team(rank, 2)
    tensors = [torch.full(shape, float(rank + 1)) for shape in ((2, 2), (1,), (3, 3))]
    team.sum(tensors)
    team.wait()
    pipe.send((team.leads, [sorted(set(one.flatten().tolist())) for one in tensors], [one.shape for one in tensors],
               team.any(rank == 1), team.any(False), team.agree(40 + rank)))
    team.leave()


@pytest.mark.skipif(sys.platform != "linux", reason="forked processes need no start of torch")
def test_two_processes_add_up_gradients_and_hear_each_other(tmp_path):
    context = multiprocessing.get_context("fork")
    answers = []
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    processes = [context.Process(target=_take_part, args=(rank, str(tmp_path / "store"), sender), daemon=True)
                 for rank, (_, sender) in enumerate(pipes)]
    for process in processes:
        process.start()
    for receiver, sender in pipes:
        sender.close()
        assert receiver.poll(120), "a process does not answer"
        answers.append(receiver.recv())
    for process in processes:
        process.join()
    assert [answer[0] for answer in answers] == [True, False]
    for _, values, shapes, one_of_them, none_of_them, agreed in answers:
        assert values == [[3.0]] * 3 and [tuple(shape) for shape in shapes] == [(2, 2), (1,), (3, 3)]
        assert (one_of_them, none_of_them, agreed) == (True, False, 40)
