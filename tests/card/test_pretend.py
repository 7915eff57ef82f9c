"""The pretend card refuses, counts and caches as a card does; else its other tests would prove nothing."""

from __future__ import annotations

import pytest
import torch

from tests.card import pretend


def test_tensors_on_two_devices_are_refused():
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(2, device="cuda") + torch.ones(2)
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(2, device="cuda:0") + torch.ones(2, device="cuda:1")
    assert (torch.ones(2, device="cuda") + torch.tensor(1.0)).device == torch.device("cuda", 0)


def test_generators_of_the_host_are_refused_for_tensors_of_a_card():
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(2, device="cuda", generator=torch.Generator("cpu"))


def test_memory_is_counted_limited_and_kept_until_the_cache_is_emptied():
    before = torch.cuda.memory_allocated()
    one = torch.empty(10**6, dtype=torch.uint8, device="cuda")
    assert torch.cuda.memory_allocated() - before == 10**6
    del one
    assert torch.cuda.memory_allocated() == before
    free = torch.cuda.mem_get_info()[0]
    torch.cuda.empty_cache()
    assert torch.cuda.mem_get_info()[0] == free + 10**6
    with pretend.limited(10**6), pytest.raises(torch.OutOfMemoryError):
        torch.empty(2 * 10**6, dtype=torch.uint8, device="cuda")


def test_waits_of_the_host_are_recorded():
    one = torch.ones(3, device="cuda")
    with pretend.recorded() as seen:
        assert one.sum().item() == 3
    assert [(each.kind, each.what) for each in seen] == [("sync", "item")]
