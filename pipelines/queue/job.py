"""One job: what was asked, what it has reported, and how it is told to end. Pages only follow it.

A job's events are kept, so that a page that comes back after a reload sees all of them; of the many StepDone only
the newest is. Imports no torch.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from threading import Condition
from time import monotonic
from typing import Any, Protocol

from ..events import Event, Failed, Finished, Queued, Stalled, StepDone
from ..requests.caller import Caller
from . import stall
from .child import Children
from .control import Control

PAGE_AWAY_S = 30 * 60.0  # a phone that is locked: its page sleeps, and comes back
PAGE_LEFT_S = 60.0  # a page that said that it goes: what was a reload is back by then, on a slow machine too


class Queue(Protocol):
    """What a job asks of the queue that it is in."""

    @property
    def is_loading(self) -> bool: ...

    def position(self, job: Job) -> int: ...

    def drop(self, job: Job) -> bool: ...


class Job:
    """One request on its way. Made by JobQueue.submit.

    task: "txt2img" ... or "load". caller: who asked. work: in pixel steps. turn: see turns.py. parts: the requests that
    it is made of, which have turns of their own before it (see child.py); none for most.
    """

    def __init__(self, request: Any, task: str, caller: Caller, queue: Queue, work: int = 0,
                 parts: Sequence[Any] = ()):
        self.id = secrets.token_hex(8)
        self.request, self.task, self.caller, self.work, self.turn = request, task, caller, work, 0
        self.children = Children(self, parts)
        self.control = Control()
        self._queue = queue
        self._news = Condition()
        self._log: list[Event] = []
        self._step: StepDone | None = None
        self._done = False
        self._seen = monotonic()
        self._left = False
        self._heard = 0.0  # when it last reported something; 0 before its turn
        self._began = 0.0  # when its turn came, that of the first of its children

    @property
    def page(self) -> str | None:
        """Id of the page that asked, or None for callers that wait in place."""
        return self.caller.page

    @property
    def owner(self) -> str:
        """Id of the login or browser that the pictures belong to."""
        return self.caller.owner

    @property
    def is_guest(self) -> bool:
        """Whether it was asked for by a guest of a page that others can reach."""
        return self.caller.is_guest

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
        self._began = self._began or self._heard

    @property
    def seconds(self) -> float:
        """For how long it has run."""
        return monotonic() - self._began if self._began else 0.0

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
        assert isinstance(last, Finished)  # a job ends with one of the two
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
