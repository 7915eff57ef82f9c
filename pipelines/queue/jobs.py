"""The queue that jobs wait in. One worker thread a device runs every job. Imports no torch."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from threading import Condition, Thread, current_thread
from time import monotonic
from typing import Any

from ..errors import Cancelled, StudioError
from ..events import Event, Failed, Finished, Saved
from ..requests.caller import NOBODY, Caller
from .job import Job
from .turns import Turns, check_room

log = logging.getLogger(__name__)

LOAD = "load"  # the task of a job that only brings a checkpoint into memory


class JobQueue:
    """An ordered queue and the one thread that works through it.

    work: turns a job into its events; it is run on the worker thread alone, and always closed there. Foreign
    errors become a StudioError with an id; the traceback goes to the log only.
    """

    def __init__(self, work: Callable[[Job], Iterator[Event]]):
        self._work = work
        self._waiting = Turns()
        self._running: Job | None = None
        self._last: dict[tuple[str, str], Job] = {}
        self._changed = Condition()
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._thread = Thread(target=self._loop, name="worker", daemon=True)
        self._thread.start()

    def submit(self, request: Any, task: str, caller: Caller = NOBODY, work: int = 0) -> Job:
        """Put a request into the queue, in its owner's turn. Raises QueueFull, with how many wait."""
        job, page = Job(request, task, caller, self, work), caller.page
        with self._changed:
            open_jobs = [other for other in (*self._waiting, self._running) if other]
            check_room(job, open_jobs, len(self._waiting))
            self._waiting.add(job, self._running)
            if page:
                self._last.pop((page, task), None)  # a page in use moves to the end: the oldest are forgotten
                self._last[page, task] = job
                while len(self._last) > 256:
                    self._last.pop(next(iter(self._last)))
            self._changed.notify()
        return job

    def last(self, page: str, task: str) -> Job | None:
        """The newest job of a page for a task, running, waiting or ended."""
        return self._last.get((page, task))

    def leaving(self, page: str) -> None:
        """Say that a page goes, to each of its jobs."""
        with self._changed:
            mine = [job for job in (*self._waiting, self._running) if job and job.page == page]
        for job in mine:
            job.leaving()

    def position(self, job: Job) -> int:
        with self._changed:
            return self._waiting.index(job) + self._is_busy if job in self._waiting else 0

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The one that runs, and those that have not had their turn."""
        with self._changed:
            return tuple(job for job in (self._running, *self._waiting) if job)

    def __len__(self) -> int:
        """Jobs running and waiting."""
        with self._changed:
            return len(self._waiting) + self._is_busy

    @property
    def _is_busy(self) -> bool:
        """Whether a job runs. One that has told its end counts no more, though its thread may still tidy up."""
        return self._running is not None and not self._running.done

    @property
    def is_loading(self) -> bool:
        """Whether the running job brings a checkpoint into memory."""
        with self._changed:
            return self._running is not None and self._running.task == LOAD

    def drop(self, job: Job) -> bool:
        """Take a job out that waits, and say whether it did; one that runs is left to its control."""
        with self._changed:
            if job not in self._waiting:
                return False
            self._waiting.remove(job)
        job.report(Finished((), 0.0, stopped=True))
        return True

    def restart(self) -> None:
        """Give up on the job that runs, and go on with a new thread; the old one ends when it comes back."""
        with self._changed:
            job, self._running = self._running, None
            if self._closed or job is None:
                return
            self._start()
        job.control.stop.set()
        job.report(Failed(StudioError("The worker was restarted, because this job did not go on.")))

    def close(self, timeout_s: float = 5.0) -> None:
        """Stop the running job, drop the others, and end the thread."""
        with self._changed:
            self._closed = True
            running, waiting = self._running, tuple(self._waiting)
            self._changed.notify()
        for job in waiting:
            self.drop(job)
        if running:
            running.control.stop.set()
        self._thread.join(timeout_s)

    def _loop(self) -> None:
        me = current_thread()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed or self._thread is not me)
                if self._closed or self._thread is not me:  # another has taken over
                    return
                job = self._running = self._waiting.next()
            try:
                self._run(job)
            finally:
                with self._changed:
                    if self._running is job:
                        self._running = None

    def _run(self, job: Job) -> None:
        begin, records = monotonic(), []

        def finish(stopped: bool) -> None:
            job.report(Finished(tuple(records), monotonic() - begin, stopped))

        try:
            if job.away() or job.control.stop.is_set():  # stopped in the moment in which its turn came
                return finish(stopped=True)
            job.begin()
            for event in self._work(job):
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
        except BaseException:  # even SystemExit from a library must not end the only worker
            error_id = secrets.token_hex(3)
            log.exception("job %s failed (id %s)", job.id, error_id)
            job.report(Failed(StudioError(f"Something went wrong (id {error_id}). The log of the app says more.")))
