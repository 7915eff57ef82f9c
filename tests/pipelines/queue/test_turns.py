"""Owners take turns, and guests have limits that do not go by what they say; a job that hangs is noticed."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from pipelines.errors import QueueFull, StudioError
from pipelines.events import Finished, Stalled, StepDone
from pipelines.queue import stall
from pipelines.queue.job import Job
from pipelines.queue.jobs import JobQueue
from pipelines.queue.turns import MAX_GUEST_WORK, MAX_PER_GUEST, MAX_WAITING
from pipelines.queue.workload import pixel_steps
from pipelines.requests import Img2Img, Txt2Img, Upscale, make
from pipelines.requests.caller import Caller
from pipelines.sweeps.grid import Axis, Matrix

BASE = make(Txt2Img, width=64, height=128, steps=10, batch_size=2, batch_count=3)


class Gate:
    """Work that waits until it is let go; notes in which order it was done."""

    def __init__(self):
        self.open, self.done, self.began = threading.Event(), [], threading.Event()

    def __call__(self, job):
        self.began.set()
        yield StepDone(1, 9, 1, 1, 1000.0, 0.0)
        self.open.wait(30)
        if job.control.stop.is_set():
            return
        self.done.append(job.request)


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture
def queue(gate):
    made = JobQueue(gate)
    yield made
    gate.open.set()
    made.close()


def test_owners_take_turns(queue, gate):
    jobs = [queue.submit(f"a{number}", "t", Caller(page=f"page {number}", owner="a")) for number in range(6)]
    assert gate.began.wait(30)
    for name in ("b0", "b1", "c0"):
        jobs.append(queue.submit(name, "t", Caller(owner=name[0])))
    assert [job.position for job in jobs] == [0, 3, 5, 6, 7, 8, 1, 4, 2]
    gate.open.set()
    for job in jobs:
        job.wait(30)
    assert gate.done == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4", "a5"]


def test_one_owner_is_served_in_order(queue, gate):
    jobs = [queue.submit(number, "t", Caller(page=str(number), owner="a")) for number in range(10)]
    gate.open.set()
    for job in jobs:
        job.wait(30)
    assert gate.done == list(range(10))


def test_a_guest_with_many_pages_has_few_jobs_and_the_owner_always_room(queue, gate):
    kept = 0
    for number in range(40):
        try:
            queue.submit("x", "t", Caller(page=f"invented {number}", owner="guest", is_guest=True))
            kept += 1
        except QueueFull as error:
            assert "4 jobs" in str(error)
    assert kept == MAX_PER_GUEST and gate.began.wait(30)
    with pytest.raises(QueueFull):
        for number in range(100):
            queue.submit("x", "t", Caller(page=f"p{number}", owner=f"guest {number}", is_guest=True))
    mine = queue.submit("mine", "t", Caller(page="mine", owner="me"))
    assert len(queue) > MAX_WAITING and mine.position == 1


def test_a_guest_may_have_so_much_work_waiting(queue):
    most = queue.submit("x", "t", Caller(owner="g", is_guest=True), work=MAX_GUEST_WORK - 5)
    with pytest.raises(QueueFull, match="million pixel steps"):
        queue.submit("x", "t", Caller(owner="g", is_guest=True), work=6)
    queue.submit("x", "t", Caller(owner="g", is_guest=True), work=5)
    queue.submit("x", "t", Caller(owner="other", is_guest=True), work=MAX_GUEST_WORK)
    queue.submit("x", "t", Caller(owner="me"), work=100 * MAX_GUEST_WORK)
    most.stop()


def size(_: str) -> tuple[int, int]:
    return 50, 40


@pytest.mark.parametrize(("asked", "work"), [
    (BASE, 64 * 128 * 10 * 6),
    (make(Txt2Img, width=64, height=64, steps=10, hires_scale=2.0, hires_strength=0.5), 64**2 * 10 + 128**2 * 5),
    (make(Img2Img, image="x", width=64, height=64, steps=10, strength=0.5), 64 * 64 * 5),
    (make(Upscale, image="x", scale=2.0, steps=10, strength=0.5), 100 * 80 * 5),
    (make(Upscale, image="x", scale=2.0, redraw=False), 100 * 80),
    (Matrix(make(Txt2Img, width=64, height=64), Axis("steps", (2, 3))), 64 * 64 * 5),
    ("a checkpoint", 0)])
def test_work_is_pixels_times_steps_times_pictures(asked, work):
    assert pixel_steps(asked, size) == work


# A job that hangs


@pytest.mark.parametrize(("silent", "rate", "hangs"), [(59, 100, False), (61, 100, True), (61, 0.1, False),
                                                       (301, 0.1, True), (590, None, False), (601, None, True)])
def test_how_long_is_too_long_goes_by_the_usual_step(silent, rate, hangs):
    step = None if rate is None else StepDone(1, 9, 1, 1, rate, 0.0)
    assert bool(stall.stalled_s(silent, step)) is hangs


def test_a_job_that_hangs_is_said_and_given_up(queue, gate, monkeypatch):
    monkeypatch.setattr(stall, "AFTER_S", 0.05)
    job, behind = queue.submit("hangs", "t", Caller(owner="a")), queue.submit("next", "t", Caller(owner="a"))
    events = job.follow(tick_s=0.02)
    assert next(event for event in events if isinstance(event, Stalled)).seconds > 0.05
    gate.began.clear()
    queue.restart()
    with pytest.raises(StudioError, match="restarted"):
        job.wait(30)
    assert gate.began.wait(30) and behind.position == 0  # the next one runs, though the old thread has not come back
    gate.open.set()
    assert isinstance(behind.wait(30), Finished) and gate.done == ["next"]
    assert job.events[-1].error and len([event for event in job.events if isinstance(event, Finished)]) == 0
    assert not queue.submit("later", "t").wait(30).stopped


def test_a_run_that_pauses_does_not_hang(queue, gate, monkeypatch):
    from pipelines.training.run.store import TrainRun

    monkeypatch.setattr(stall, "AFTER_S", 0.0)
    job = queue.submit(TrainRun("a", "watch"), "train")
    assert gate.began.wait(30)
    next(event for event in job.follow(tick_s=0.01) if isinstance(event, StepDone))
    assert job.stalled_s == 0


def test_jobs_of_one_turn_keep_the_order_in_which_they_came():
    from pipelines.queue.turns import Turns

    turns = Turns()
    jobs = [Job(number, "t", Caller(owner=f"owner {number}"), None) for number in range(20)]
    for job in jobs:
        turns.add(job, ())
    taken = [turns.next().request for _ in jobs]
    assert all(earlier < later for earlier, later in pairwise(taken))
