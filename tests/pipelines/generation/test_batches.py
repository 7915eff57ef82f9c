"""Which pictures are made at once, and the speed and the rest that the steps of a request are said to have."""

from __future__ import annotations

from itertools import accumulate

import pytest

from pipelines.generation import batches
from pipelines.generation.batches import Pace, Part
from pipelines.requests import Txt2Img, make


@pytest.fixture
def clock(monkeypatch):
    """Takes the seconds that lie between one look at the clock and the next."""
    def let_pass(*seconds: float) -> None:
        times = accumulate(seconds, initial=0.0)
        monkeypatch.setattr(batches, "perf_counter", lambda: next(times))

    return let_pass


def test_the_rest_of_one_picture_is_its_steps_at_the_speed_so_far(clock):
    clock(0.5, 0.5)
    pace = Pace(1)
    assert pace.tick(1, 10, 1) == pytest.approx((2, 4.5))
    assert pace.tick(2, 10, 1) == pytest.approx((2, 4.0))


def test_a_slower_step_counts_with_its_weight(clock):
    clock(1, 2)
    pace = Pace(1)
    pace.tick(1, 10, 1)
    smoothed = 0.7 * 1 + 0.3 * 2
    assert pace.tick(2, 10, 1) == pytest.approx((1 / smoothed, 8 * smoothed))


def test_the_batches_behind_are_counted(clock):
    clock(1)
    assert Pace(6).tick(4, 10, 2)[1] == pytest.approx(6 + 2 * 10)


def test_what_lies_between_the_steps_is_no_step(clock):
    clock(1, 100, 1)
    pace = Pace(1)
    pace.tick(1, 4, 1)
    pace.restart()
    assert pace.tick(2, 4, 1) == pytest.approx((1, 2))


def test_steps_of_a_second_pass_weigh_what_they_cost(clock):
    clock(1, 4)
    pace = Pace(1)
    assert pace.tick(5, 5, 1, Part(after=3, weight=4))[1] == pytest.approx(3 * 4)
    assert pace.tick(1, 3, 1, Part(before=5, weight=4)) == pytest.approx((0.25, 2 * 4))


def test_seeds_count_up_over_the_batches_and_past_the_largest_begin_at_zero():
    request = make(Txt2Img, prompt="a cat", seed=2**64 - 2, batch_size=2, batch_count=2)
    made = list(batches.batches(request))
    assert [(one.seeds, one.variations, one.first) for one in made] == [
        ((2**64 - 2, 2**64 - 1), (), 1), ((0, 1), (), 3)]


def test_of_a_varied_picture_only_the_variation_seed_counts_up():
    request = make(Txt2Img, prompt="a cat", seed=7, batch_size=3, variation_strength=0.2, variation_seed=40)
    one, = batches.batches(request)
    assert (one.seeds, one.variations) == ((7, 7, 7), (40, 41, 42))
    half = one.part(1)
    assert (half.variations, half.first) == ((41, 42), 2)
