"""The queue that jobs wait in. One thread a device works through it. Imports no torch."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Condition, Thread
from time import monotonic
from typing import Any

from ..errors import Cancelled, StudioError
from ..events import Event, Failed, Finished, Saved
from ..requests.caller import NOBODY, Caller
from .child import ChildJob
from .job import Job
from .turns import Turns, check_room

log = logging.getLogger(__name__)

LOAD = "load"  # the task of a job that only brings a checkpoint into memory
KEPT_JOBS = 256  # that have ended, for pages that come back and for programs that ask by id

AnyJob = Job | ChildJob
Run = Callable[[AnyJob], Iterator[Event]]


@dataclass
class Lane:
    """A thread, what it runs jobs with, and the job that it is at."""

    run: Run
    thread: Thread = field(init=False)
    job: AnyJob | None = None

    @property
    def lead(self) -> Job | None:
        """The job that pages know."""
        return lead_of(self.job) if self.job else None


def lead_of(job: AnyJob) -> Job:
    """The job that pages know: of a child the one that it is of."""
    return job.lead if isinstance(job, ChildJob) else job


class JobQueue:
    """An ordered queue and the threads that work through it, one for each of `runs`.

    runs: turn a job into its events; each is called on its own thread alone, and its generators are always closed
    there. Foreign errors become a StudioError with an id; the traceback goes to the log only.
    """

    def __init__(self, *runs: Run):
        self._waiting = Turns()
        self._last: dict[tuple[str, str], Job] = {}
        self._by_id: dict[str, Job] = {}
        self._changed = Condition()
        self._closed = False
        self._lanes = [Lane(run) for run in runs]
        for lane in self._lanes:
            self._start(lane)

    def _start(self, lane: Lane) -> None:
        lane.thread = Thread(target=self._loop, args=(lane,), name="worker", daemon=True)
        lane.thread.start()

    def submit(self, request: Any, task: str, caller: Caller = NOBODY, work: int = 0, parts: Sequence[Any] = ()) -> Job:
        """Put a request into the queue, in its owner's turn. Raises QueueFull, with how many wait."""
        job, page = Job(request, task, caller, self, work, parts), caller.page
        with self._changed:
            check_room(job, self._open_jobs(), len(self._waiting))
            self._waiting.add(job, self._running())
            self._by_id[job.id] = job
            _forget_oldest(self._by_id)
            if page:
                self._last.pop((page, task), None)  # a page in use moves to the end: the oldest are forgotten
                self._last[page, task] = job
                _forget_oldest(self._last)
            self._changed.notify_all()
        return job

    def last(self, page: str, task: str) -> Job | None:
        """The newest job of a page for a task, running, waiting or ended."""
        return self._last.get((page, task))

    def job(self, id: str) -> Job | None:
        """A job by its id: running, waiting, or one of the last that ended."""
        return self._by_id.get(id)

    def leaving(self, page: str) -> None:
        """Say that a page goes, to each of its jobs."""
        for job in self.jobs:
            if job.page == page:
                job.leaving()

    def position(self, job: Job) -> int:
        with self._changed:
            running = self._running()
            if job not in self._waiting or job in running:
                return 0
            before = [other for other in self._waiting.before(job) if other not in running]
            return len(before) + sum(not other.done for other in running)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Those that run, and those that have not had their turn."""
        with self._changed:
            return tuple(self._open_jobs())

    def __len__(self) -> int:
        """Jobs running and waiting. One that has told its end counts no more, though its thread may still tidy up."""
        with self._changed:
            return sum(not job.done for job in self._open_jobs())

    @property
    def is_loading(self) -> bool:
        """Whether a running job brings a checkpoint into memory."""
        with self._changed:
            return any(job.task == LOAD for job in self._running())

    def drop(self, job: Job) -> bool:
        """Take a job out that waits, and say whether it did; one that runs is left to its control."""
        with self._changed:
            job.children.drop()
            if job not in self._waiting:
                return False
            self._waiting.remove(job)
            if job in self._running():  # some of its parts: the last one ends it
                return False
        job.report(Finished(job.children.records, 0.0, stopped=True))
        return True

    def restart(self, is_stuck: Callable[[Job], object] = lambda job: True) -> tuple[Run, ...]:
        """Give up on the running jobs that are stuck, and go on with new threads; the old ones end when they come back.

        Returns what ran them.
        """
        with self._changed:
            stuck = [lane for lane in self._lanes if lane.lead and is_stuck(lane.lead)] if not self._closed else []
            given_up = {lead for lane in stuck if (lead := lane.lead)}
            for job in given_up:
                job.children.drop()
                if job in self._waiting:
                    self._waiting.remove(job)
            for lane in stuck:
                self._lanes[self._lanes.index(lane)] = new = Lane(lane.run)
                self._start(new)
        for job in given_up:
            job.control.stop.set()
            job.report(Failed(StudioError("The worker was restarted, because this job did not go on.")))
        return tuple(lane.run for lane in stuck)

    def close(self, timeout_s: float = 5.0, end: Callable[[], None] = lambda: None) -> None:
        """Stop the running jobs, drop the others, and end the threads. end: called before they are waited for."""
        with self._changed:
            self._closed = True
            waiting, running, lanes = tuple(self._waiting), self._running(), tuple(self._lanes)
            self._changed.notify_all()
        for job in waiting:
            self.drop(job)
        for job in running:
            job.control.stop.set()
        end()
        until = monotonic() + timeout_s
        for lane in lanes:
            lane.thread.join(max(0.0, until - monotonic()))

    # Under the lock

    def _running(self) -> list[Job]:
        return list(dict.fromkeys(lane.lead for lane in self._lanes if lane.lead))

    def _open_jobs(self) -> list[Job]:
        return list(dict.fromkeys((*self._running(), *self._waiting)))

    # On a lane's thread

    def _loop(self, lane: Lane) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed or lane not in self._lanes)
                if self._closed or lane not in self._lanes:  # another has taken over
                    return
                job = lane.job = self._waiting.next()
            try:
                self._run(lane, job)
                if isinstance(job, ChildJob) and job.lead.children.end_once():
                    lane.job = job.lead
                    self._run(lane, job.lead)
            finally:
                with self._changed:
                    lane.job = None

    def _run(self, lane: Lane, job: AnyJob) -> None:
        lead = lead_of(job)
        records = list(lead.children.records)

        def finish(stopped: bool) -> None:
            job.report(Finished(tuple(records), lead.seconds, stopped))

        try:
            if job.away() or job.control.stop.is_set() or _is_left_out(job):  # in the moment in which its turn came
                return finish(stopped=True)
            job.begin()
            for event in lane.run(job):
                if isinstance(event, Saved):
                    records.append(event.record)
                job.report(event)
                if job.away():
                    job.control.leave.set()
            finish(stopped=False)
        except Cancelled:
            finish(stopped=True)
        except StudioError as error:
            # The job is kept: with its frames, and the errors it came of, an error would keep a checkpoint in memory.
            error.__cause__ = error.__context__ = None
            job.report(Failed(error.with_traceback(None)))
        except BaseException:  # even SystemExit from a library must not end a worker
            error_id = secrets.token_hex(3)
            log.exception("job %s failed (id %s)", job.id, error_id)
            job.report(Failed(StudioError(f"Something went wrong (id {error_id}). The log of the app says more.")))


def _is_left_out(job: AnyJob) -> bool:
    """Whether a child is not begun because its page is away, or a job not ended because children were left out."""
    return job.control.leave.is_set() if isinstance(job, ChildJob) else job.children.were_stopped


def _forget_oldest(kept: dict[Any, Job]) -> None:
    while len(kept) > KEPT_JOBS:
        kept.pop(next(iter(kept)))
