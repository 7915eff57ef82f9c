"""A job of many requests, such as a grid: its children have turns of their own, and it ends when all of them have.

Several threads may work at the children of one job. What they report goes to the job that pages follow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..events import Event, Failed, Finished, Notice, Record, Saved, StepDone

if TYPE_CHECKING:
    from ..requests.caller import Caller
    from .control import Control
    from .job import Job


class Children:
    """The requests of a job that are still to be made, and what became of the others.

    requests: concrete ones, in their order. lead: the job that they are of.
    """

    def __init__(self, lead: Job, requests: Sequence[Any]):
        self._lead, self._count = lead, len(requests)
        self._waiting = deque(enumerate(requests))
        self._running = 0
        self._records: list[Record] = []
        self._stopped = self._is_told = False
        self._lock = Lock()

    @property
    def is_waiting(self) -> bool:
        """Whether one of them has not had its turn."""
        return bool(self._waiting)

    @property
    def have_begun(self) -> bool:
        """Whether one of them has had its turn."""
        return len(self._waiting) < self._count

    @property
    def were_stopped(self) -> bool:
        """Whether some were not made, because the job was stopped or failed."""
        return self._stopped

    @property
    def records(self) -> tuple[Record, ...]:
        """What they have saved, in the order in which that was done."""
        return tuple(self._records)

    def take(self) -> ChildJob:
        """The next one, whose turn has come."""
        with self._lock:
            number, request = self._waiting.popleft()
            self._running += 1
        return ChildJob(self._lead, number, request)

    def end_once(self) -> bool:
        """Whether all have ended; of several threads that ask, one is told so, which then ends the job."""
        with self._lock:
            ended = not self._waiting and not self._running and not self._is_told
            self._is_told |= ended
            return ended

    def drop(self) -> None:
        """Leave out those that have not had their turn."""
        with self._lock:
            self._stopped |= bool(self._waiting)
            self._waiting.clear()

    def hear(self, number: int, event: Event) -> None:
        """Take what a child reports, and tell of it in the name of all."""
        if isinstance(event, Finished | Failed):
            self._end(number, event)
            return
        if isinstance(event, Saved):
            self._records.append(event.record)
        self._lead.report(counted(event, number, self._count) if isinstance(event, StepDone) else event)

    def _end(self, number: int, event: Finished | Failed) -> None:
        if isinstance(event, Failed):
            self._lead.report(Notice(f"Picture {number + 1} of {self._count} was left out. {event.error}"))
        elif event.stopped:
            self._stopped = True
            self.drop()
        with self._lock:
            self._running -= 1


class ChildJob:
    """One request of a job, as the queue runs it. It is told to end by the controls of the job that it is of."""

    def __init__(self, lead: Job, number: int, request: Any):
        self.lead, self.number, self.request = lead, number, request
        self.id = f"{lead.id}-{number}"
        self.task = lead.task

    @property
    def caller(self) -> Caller:
        return self.lead.caller

    @property
    def owner(self) -> str:
        return self.lead.owner

    @property
    def control(self) -> Control:
        return self.lead.control

    @property
    def done(self) -> bool:
        return self.lead.done

    def begin(self) -> None:
        """Note that its turn has come."""
        self.lead.begin()

    def away(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.lead.away()

    def report(self, event: Event) -> None:
        """Tell the job that it is of."""
        self.lead.children.hear(self.number, event)


def counted(event: StepDone, number: int, count: int) -> StepDone:
    """Count a picture's steps as those of the whole job. number: from 0."""
    whole_s = event.step / max(event.steps_per_s, 1e-9) + event.seconds_left  # of this picture
    return replace(event, image=number + 1, images=count,
                   seconds_left=event.seconds_left + (count - number - 1) * whole_s)
