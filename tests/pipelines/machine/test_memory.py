"""Running out of memory is recognised, what the work held is let go, and everything else passes through."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from pipelines.errors import OutOfMemory, RequestError
from pipelines.machine.memory import attempt, is_out_of_memory, refusing

REAL = "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."


class Held:
    """Something large that a frame of the work holds."""


def hold_and_fail(error, kept):
    held = Held()
    kept.append(weakref.ref(held))
    raise error


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("x"), RuntimeError(REAL),
                                   RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED")])
def test_work_that_finds_no_room_ends_without_an_error_and_lets_go_what_it_held(error):
    kept = []
    gc.disable()  # reference counts alone must be enough
    try:
        with attempt() as tried:
            hold_and_fail(error, kept)
        assert tried.full and kept[0]() is None
    finally:
        gc.enable()


def test_what_an_earlier_error_of_the_same_work_held_is_let_go_as_well():
    kept = []
    with attempt() as tried:
        try:
            hold_and_fail(ValueError("first"), kept)
        except ValueError:
            hold_and_fail(MemoryError(), kept)
    assert tried.full and [held() for held in kept] == [None, None]


def test_a_real_allocation_that_cannot_be_is_recognised():
    with attempt() as tried:
        torch.empty(2**60, dtype=torch.uint8)
    assert tried.full


def test_work_that_has_room_says_so():
    with attempt() as tried:
        pass
    assert not tried.full


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), RequestError("Seed: no."), KeyboardInterrupt()])
def test_other_errors_pass_through(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)), attempt():
        raise error
    with pytest.raises(type(error)), refusing("never said"):
        raise error


def test_the_last_attempt_lets_the_error_pass():
    with pytest.raises(MemoryError), attempt(last=True):
        raise MemoryError


@pytest.mark.parametrize("message", ["Not enough memory. Try less.", lambda: "Not enough memory. Try less."])
def test_where_nothing_is_left_to_try_the_sentence_says_what_to_do(message):
    kept = []
    with pytest.raises(OutOfMemory, match="Try less"), refusing(message):
        hold_and_fail(MemoryError(), kept)
    assert kept[0]() is None


def test_a_generator_may_be_left_in_the_middle():
    def work():
        with attempt() as tried:
            yield 1
            raise MemoryError
        yield tried.full

    abandoned = work()
    assert next(abandoned) == 1
    abandoned.close()
    assert list(work()) == [1, True]
