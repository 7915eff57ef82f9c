"""Jobs and the queue they wait in. One worker thread a device runs every job; pages only follow.

A job's events are kept, so that a page that comes back after a reload sees all of them; of the many StepDone only
the newest is. Imports no torch.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from threading import Condition, Thread, current_thread
from time import monotonic
from typing import Any

from ..errors import Cancelled, StudioError
from ..events import Event, Failed, Finished, Queued, Saved, Stalled, StepDone
from . import stall
from .control import Control
from .turns import MAX_OF_PROGRAMS, MAX_PER_PAGE, MAX_WAITING, Turns, check_room

__all__ = ["LOAD", "MAX_OF_PROGRAMS", "MAX_PER_PAGE", "MAX_WAITING", "Job", "JobQueue"]

log = logging.getLogger(__name__)

PAGE_AWAY_S = 30 * 60.0  # a phone that is locked: its page sleeps, and comes back
PAGE_LEFT_S = 60.0  # a page that said that it goes: what was a reload is back by then, on a slow machine too
LOAD = "load"  # the task of a job that only brings a checkpoint into memory


class Job:
    """One request on its way. Made by JobQueue.submit.

    task: "txt2img" ... or "load". page: id of the page that asked, or None for callers that wait in place. owner: id
    of the login or browser that the pictures belong to. is_guest: of a page that others can reach. work: in pixel
    steps. turn: see pipelines.queue.turns. say: puts a word of ours that is drawn into a picture into the language
    of who asked.
    """

    def __init__(self, request: Any, task: str, page: str | None, owner: str, queue: JobQueue,
                 say: Callable[[str], str] = str, is_guest: bool = False, work: int = 0):
        self.id = secrets.token_hex(8)
        self.request, self.task, self.page, self.owner, self.say = request, task, page, owner, say
        self.is_guest, self.work, self.turn = is_guest, work, 0
        self.control = Control()
        self._queue = queue
        self._news = Condition()
        self._log: list[Event] = []
        self._step: StepDone | None = None
        self._done = False
        self._seen = monotonic()
        self._left = False
        self._heard = 0.0  # when it last reported something; 0 before its turn

    @property
    def done(self) -> bool:
        return self._done

    @property
    def stopped(self) -> bool:
        """Whether it was ended before everything was made."""
        with self._news:
            last = self._log[-1] if self._log else None
        return isinstance(last, Finished) and last.stopped

    @property
    def position(self) -> int:
        """Jobs that run before this one; 0 while it runs and after."""
        return self._queue.position(self)

    @property
    def events(self) -> tuple[Event, ...]:
        """Everything reported so far, except steps."""
        with self._news:
            return tuple(self._log)

    @property
    def stalled_s(self) -> float:
        """For how long the running job hangs; 0 while it goes on. A run of the trainer may pause: that is none."""
        with self._news:
            heard, step, done = self._heard, self._step, self._done
        may_pause = getattr(self.request, "has_own_process", False)
        return 0.0 if not heard or done or may_pause else stall.stalled_s(monotonic() - heard, step)

    def begin(self) -> None:
        """Note that its turn has come; called by the worker."""
        self._heard = monotonic()

    def stop(self) -> bool:
        """End within one step; finished pictures stay. Returns whether it had not had its turn."""
        self.control.stop.set()
        return self._queue.drop(self)

    def skip(self) -> None:
        """Drop the batch being made and go on with the next."""
        self.control.skip.set()

    def leaving(self) -> None:
        """Say that the page goes. Unless somebody begins to follow, the others in the queue need not wait for long."""
        self._left = True

    def follow(self, tick_s: float = 0.2) -> Iterator[Event | None]:
        """Yield events as they come, None at least every `tick_s`, until Finished or Failed was yielded.

        Several readers may follow, and a late one first gets what was reported before. Following is what tells the
        studio that the page is still there, and one that comes back in time is in time for what is left.
        """
        read, step, place, told_s = 0, None, None, 0.0
        self._left = False
        while True:
            self._seen = monotonic()
            self.control.leave.clear()
            with self._news:
                if read == len(self._log) and step is self._step:
                    self._news.wait(tick_s)
                news, read = self._log[read:], len(self._log)
                newest, done = self._step, self._done
            before = self.position
            if before and before != place:
                place = before
                yield Queued(before, loads=before == 1 and self._queue.is_loading)
            stalled_s = self.stalled_s
            told_s = told_s if stalled_s else 0.0
            if stalled_s and (not told_s or stalled_s > told_s + stall.SAID_EVERY_S):
                told_s = stalled_s
                yield Stalled(stalled_s)
            if newest is not step:
                step = newest
                if not done:
                    yield newest
            yield from news
            if done:
                return
            yield None

    def wait(self, timeout_s: float | None = None) -> Finished:
        """Block until the job has ended. Raises what the job failed with, TimeoutError after `timeout_s`."""
        self._seen = float("inf")  # whoever waits in place is there
        with self._news:
            if not self._news.wait_for(lambda: self._done, timeout_s):
                raise TimeoutError
            last = self._log[-1]
        if isinstance(last, Failed):
            raise last.error
        return last

    def away(self) -> bool:
        """Whether nobody has followed the job for PAGE_AWAY_S, or for PAGE_LEFT_S after the page said goodbye."""
        return self.page is not None and monotonic() - self._seen > (PAGE_LEFT_S if self._left else PAGE_AWAY_S)

    def report(self, event: Event) -> None:
        """Add an event; called by the worker."""
        with self._news:
            if self._done:  # given up by a restart of the worker: what comes late counts no more
                return
            self._heard = monotonic()
            if isinstance(event, StepDone):
                self._step = event
            else:
                self._log.append(event)
            self._done = isinstance(event, Finished | Failed)
            if self._done:
                self._step = None  # ended jobs are kept for pages that come back, and a preview is half a megabyte
            self._news.notify_all()


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

    def submit(self, request: Any, task: str, page: str | None = None, owner: str = "",
               say: Callable[[str], str] = str, is_guest: bool = False, work: int = 0) -> Job:
        """Put a request into the queue, in its owner's turn. Raises QueueFull, with how many wait."""
        job = Job(request, task, page, owner, self, say, is_guest, work)
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
