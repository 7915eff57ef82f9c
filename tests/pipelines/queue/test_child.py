"""A job of many requests: its parts have turns of their own, on any thread, and it ends when all have."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from pipelines.errors import Cancelled, StudioError
from pipelines.events import Event, Notice, Record, Saved, StepDone
from pipelines.queue.child import ChildJob
from pipelines.queue.jobs import JobQueue
from pipelines.requests.caller import Caller

PATIENCE_S = 60


class Work:
    """Notes what was run; a part waits until it is let go, where that is wanted."""

    def __init__(self) -> None:
        self.done: list[object] = []
        self.began, self.gate = threading.Semaphore(0), threading.Event()
        self.gate.set()

    def __call__(self, job: object) -> Iterator[Event]:
        self.began.release()
        assert self.gate.wait(PATIENCE_S)
        if job.control.stop.is_set():
            raise Cancelled("Stopped.")
        self.done.append(job.request)
        if job.request == "breaks":
            raise StudioError("No luck.")
        if isinstance(job, ChildJob):
            yield StepDone(1, 1, 1, 1, 2.0, 0.0)
            yield Saved(Record(None, str(job.request), 1, 8, 8, "t"))


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture
def queue_of(work: Work) -> Iterator[Callable[[int], JobQueue]]:
    made: list[JobQueue] = []

    def build(lanes: int) -> JobQueue:
        made.append(JobQueue(*[work] * lanes))
        return made[-1]

    yield build
    work.gate.set()
    for queue in made:
        queue.close()


def texts(records: tuple[Record, ...]) -> list[str]:
    return [record.infotext for record in records]


def test_parts_are_made_in_their_order_and_the_job_comes_last(queue_of, work: Work) -> None:
    job = queue_of(1).submit("whole", "t", parts=["a", "b", "c"])
    ended = job.wait(PATIENCE_S)
    assert work.done == ["a", "b", "c", "whole"] and texts(ended.records) == ["a", "b", "c"]
    assert not ended.stopped and ended.seconds > 0


def test_a_part_that_fails_is_said_and_left_out(queue_of, work: Work) -> None:
    job = queue_of(1).submit("whole", "t", parts=["a", "breaks", "c"])
    assert texts(job.wait(PATIENCE_S).records) == ["a", "c"]
    assert [event.text for event in job.events if isinstance(event, Notice)] == [
        "Picture 2 of 3 was left out. No luck."]


def test_two_threads_share_the_parts_and_one_ends_the_job(queue_of, work: Work) -> None:
    work.gate.clear()
    job = queue_of(2).submit("whole", "t", parts=list("abcd"))
    for _ in range(2):
        assert work.began.acquire(timeout=PATIENCE_S)
    work.gate.set()
    assert sorted(texts(job.wait(PATIENCE_S).records)) == list("abcd")
    assert sorted(work.done[:-1]) == list("abcd") and work.done[-1] == "whole"


def test_stop_reaches_the_parts_that_run_and_those_that_wait(queue_of, work: Work) -> None:
    work.gate.clear()
    queue = queue_of(2)
    job = queue.submit("whole", "t", parts=list("abcdef"))
    for _ in range(2):
        assert work.began.acquire(timeout=PATIENCE_S)
    assert job.position == 0 and queue.jobs == (job,) and not job.stop()
    work.gate.set()
    assert job.wait(PATIENCE_S).stopped and work.done == [] and len(queue) == 0


def test_others_have_their_turn_between_the_parts(queue_of, work: Work) -> None:
    work.gate.clear()
    queue = queue_of(1)
    grid = queue.submit("whole", "t", Caller(owner="ann"), parts=list("abc"))
    assert work.began.acquire(timeout=PATIENCE_S)
    single = queue.submit("single", "t", Caller(owner="bob"))
    later = queue.submit("later", "t", Caller(owner="ann"))
    assert (single.position, later.position) == (1, 2)
    work.gate.set()
    for job in (grid, single, later):
        job.wait(PATIENCE_S)
    assert work.done == ["a", "single", "b", "c", "whole", "later"]


def test_steps_count_over_all_parts(queue_of) -> None:
    job = queue_of(1).submit("whole", "t", parts=list("ab"))
    steps = [event for event in job.follow() if isinstance(event, StepDone)]
    assert all(step.images == 2 and step.image in (1, 2) for step in steps)


def test_a_job_is_found_by_its_id_while_it_runs_and_after(queue_of) -> None:
    queue = queue_of(1)
    job = queue.submit("x", "t")
    assert queue.job(job.id) is job and queue.job("nobody's") is None
    job.wait(PATIENCE_S)
    assert queue.job(job.id) is job
