"""The queue: order, stop, several readers, pages that go away, and a worker that nothing ends."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from pipelines.errors import Cancelled, QueueFull, RequestError, StudioError
from pipelines.events import Failed, Finished, Notice, Queued, StepDone
from pipelines.queue import jobs, turns
from pipelines.queue.job import PAGE_AWAY_S, PAGE_LEFT_S
from pipelines.queue.jobs import JobQueue
from pipelines.requests.caller import Caller


class Work:
    """Work by script: a request is a function (job) -> iterator of events. Keeps the order in which jobs ran."""

    def __init__(self):
        self.order, self.gate = [], threading.Event()

    def __call__(self, job):
        self.order.append(job.task)
        yield from job.request(job, self)


def step(i, count=3):
    return StepDone(i, count, 1, 1, 1.0, 1.0)


def quick(job, work):
    yield step(1)
    yield Notice("half way")
    yield step(2)


def gated(job, work):
    yield step(1)
    assert work.gate.wait(60)
    while not job.control.stop.is_set() and not job.control.leave.is_set():
        yield step(2)
        if work.gate.is_set():
            break
    if job.control.stop.is_set() or job.control.leave.is_set():
        raise Cancelled("stopped")


def endless(job, work):
    i = 0
    while not job.control.stop.is_set():
        i += 1
        yield step(i, 10**9)
        if job.control.leave.is_set():
            break
    raise Cancelled("stopped")


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def queue(work):
    queue = JobQueue(work)
    yield queue
    work.gate.set()
    queue.close()


class Clock:
    """Stands still until a test moves it, so that a busy machine makes no page look away."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("pipelines.queue.job.monotonic", clock)
    return clock


def test_jobs_run_in_order_one_at_a_time(queue, work):
    made = [queue.submit(gated if i == 0 else quick, str(i)) for i in range(4)]
    assert [job.position for job in made[1:]] == [1, 2, 3]
    work.gate.set()
    assert [job.wait(60).stopped for job in made] == [False] * 4
    assert work.order == ["0", "1", "2", "3"]


def test_a_late_reader_sees_everything_but_old_steps(queue):
    job = queue.submit(quick, "t")
    job.wait(60)
    for _ in range(2):  # and so does a second one
        events = [event for event in job.follow() if event]
        assert [type(event) for event in events] == [Notice, Finished]


def test_a_reader_is_told_its_place_and_hears_something_every_tick(queue, work):
    queue.submit(gated, "first")
    waiting = queue.submit(quick, "second")
    reader = waiting.follow(tick_s=0.01)
    assert next(reader) == Queued(1)
    assert next(reader) is None
    work.gate.set()
    assert isinstance(list(reader)[-1], Finished)


def test_stop_ends_a_running_job_and_takes_a_waiting_one_out(queue):
    running, waiting = queue.submit(endless, "a"), queue.submit(quick, "b")
    waiting.stop()
    assert waiting.wait(60).stopped and not running.done
    running.stop()
    assert running.wait(60).stopped


def test_a_job_that_has_told_its_end_is_in_the_queue_no_more(queue, work):
    job = queue.submit(gated, "a")
    while not work.order:
        assert len(queue) == 1
    with queue._changed:  # its thread cannot tidy up meanwhile
        work.gate.set()
        job.wait(60)
        assert len(queue) == 0


def test_closing_ends_the_waiting_jobs_too_and_whoever_follows_them(work):
    queue = JobQueue(work)
    running, waiting = queue.submit(endless, "a"), queue.submit(quick, "b")
    queue.close()
    assert running.wait(60).stopped
    assert [event for event in waiting.follow(tick_s=0.01) if event][-1].stopped


def test_whoever_waits_for_a_model_alone_is_told_so(queue, work):
    queue.submit(gated, jobs.LOAD)
    while not work.order:
        pass
    first, second = queue.submit(quick, "a").follow(), queue.submit(quick, "b").follow()
    assert next(first) == Queued(1, loads=True)
    assert next(second) == Queued(2)
    work.gate.set()


def test_a_late_stop_does_not_hit_the_next_job(queue):
    first = queue.submit(quick, "a")
    first.wait(60)
    first.stop()
    assert not queue.submit(quick, "b").wait(60).stopped


@pytest.mark.parametrize("error", [RuntimeError("secret /path"), SystemExit(3), KeyboardInterrupt()])
def test_the_worker_outlives_any_error_and_tells_no_secrets(queue, error):
    def bad(job, work):
        yield step(1)
        raise error

    with pytest.raises(StudioError, match=r"^Something went wrong \(id [0-9a-f]{6}\)") as caught:
        queue.submit(bad, "a").wait(60)
    assert "secret" not in str(caught.value)
    assert not queue.submit(quick, "b").wait(60).stopped


def test_errors_on_purpose_keep_their_words(queue):
    def bad(job, work):
        raise RequestError("Steps: too many.", "steps")
        yield

    job = queue.submit(bad, "a")
    with pytest.raises(RequestError, match="too many"):
        job.wait(60)
    assert isinstance(job.events[-1], Failed)


def test_a_failed_job_that_is_kept_keeps_nothing_of_its_work(queue):
    class Weights:
        pass

    seen = []

    def bad(job, work):
        weights = Weights()
        seen.append(weakref.ref(weights))
        try:
            raise OSError("of a library")
        except OSError as error:
            raise RequestError("Steps: too many.", "steps") from error
        yield

    queue.submit(bad, "a", Caller(page="p"))
    queue.submit(quick, "b").wait(60)
    gc.collect()
    assert isinstance(queue.last("p", "a").events[-1], Failed) and seen[0]() is None


def test_a_job_whose_page_is_away_is_told_to_leave(queue, monkeypatch):
    monkeypatch.setattr("pipelines.queue.job.PAGE_AWAY_S", 0.05)
    assert queue.submit(endless, "a", Caller(page="p")).wait  # nobody follows
    second = queue.submit(quick, "b")
    assert not second.wait(60).stopped  # reached only because the first one ended by itself
    assert queue.last("p", "a").events[-1].stopped


def test_a_page_that_said_goodbye_is_waited_for_less_long_than_one_that_sleeps(queue, monkeypatch):
    monkeypatch.setattr("pipelines.queue.job.PAGE_LEFT_S", 0.05)
    asleep, closed = (queue.submit(endless, "t", Caller(page=page)) for page in ("asleep", "closed"))
    queue.leaving("closed")
    next(event for event in asleep.follow() if isinstance(event, StepDone))
    assert not asleep.control.leave.is_set()
    asleep.stop()
    second = queue.submit(quick, "t")
    assert not second.wait(60).stopped
    assert queue.last("closed", "t").events[-1].stopped


def test_a_page_that_comes_back_in_time_keeps_what_is_left(queue, work, clock):
    """A reload says goodbye as well; and a page may come back in the middle of the picture after which it would end."""
    job = queue.submit(gated, "t", Caller(page="p"))
    queue.leaving("p")
    reader = job.follow(tick_s=0.01)
    next(event for event in reader if isinstance(event, StepDone))
    job.control.leave.set()
    next(reader), next(reader)
    assert not job.control.leave.is_set()
    clock.now += 2 * PAGE_LEFT_S  # without a look at it
    assert not job.away()
    work.gate.set()


def test_a_job_that_is_stopped_as_its_turn_comes_does_not_begin(queue, work):
    first, second = queue.submit(gated, "a"), queue.submit(quick, "b")
    second.control.stop.set()  # as `stop` does, when it finds the job in the queue no more
    work.gate.set()
    assert not first.wait(60).stopped and second.wait(60).stopped
    assert work.order == ["a"]


def test_a_page_in_use_is_not_the_first_to_be_forgotten(queue):
    for number in range(256):
        queue.submit(quick, "t", Caller(page=str(number))).wait(60)
    mine = queue.submit(quick, "t", Caller(page="0"))
    queue.submit(quick, "t", Caller(page="256")).wait(60)
    assert queue.last("0", "t") is mine and queue.last("1", "t") is None


def test_a_followed_job_stays_and_a_returning_page_finds_it(queue, work, clock):
    job = queue.submit(gated, "a", Caller(page="p"))
    reader = job.follow(tick_s=0.01)
    for _ in range(3):
        clock.now += 0.9 * PAGE_AWAY_S
        next(reader)
    again = queue.last("p", "a")
    assert again is job and not job.away() and not job.control.leave.is_set()
    work.gate.set()
    assert not [event for event in again.follow() if event][-1].stopped


def test_a_page_may_have_three_jobs_and_the_queue_a_limit(queue):
    mine = [queue.submit(endless, "t", Caller(page="p")) for _ in range(turns.MAX_PER_PAGE)]
    next(event for event in mine[0].follow() if isinstance(event, StepDone))  # it runs, the others wait
    with pytest.raises(QueueFull, match="has 3 jobs"):
        queue.submit(quick, "t", Caller(page="p"))
    others = [queue.submit(quick, "t", Caller(page=f"q{i}")) for i in range(turns.MAX_WAITING - 2)]
    with pytest.raises(QueueFull, match="32 jobs are waiting"):
        queue.submit(quick, "t", Caller(page="r"))
    for job in mine + others:
        job.stop()


@pytest.mark.parametrize("page", [None, ""])
def test_programs_leave_room_in_the_queue_for_pages(queue, page):
    theirs = [queue.submit(endless, "t", Caller(page=page)) for _ in range(turns.MAX_OF_PROGRAMS)]
    with pytest.raises(QueueFull, match="16 jobs of programs"):
        queue.submit(quick, "t", Caller(page=page))
    mine = queue.submit(quick, "t", Caller(page="p"))
    for job in theirs:
        job.stop()
    assert not mine.wait(60).stopped


def test_a_reader_that_went_away_does_not_hold_the_worker(queue):
    job = queue.submit(quick, "a")
    reader = job.follow()
    next(reader)
    reader.close()
    assert not queue.submit(quick, "b").wait(60).stopped
