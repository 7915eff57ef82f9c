"""Whose job comes next: owners take turns, and a guest of a shared page may have only so much waiting.

A job's turn is one more than that of its owner's last one, but never before the turn that is being served: somebody
with one job waits for one job of each other owner, however many those have.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..errors import QueueFull

if TYPE_CHECKING:
    from .child import ChildJob
    from .job import Job

MAX_WAITING = 32
MAX_PER_PAGE = 3  # one running, two waiting
MAX_OF_PROGRAMS = 16  # of callers without a page, all together, so that no script keeps the pages out
MAX_PER_GUEST = 4  # of one login or cookie, whatever pages it says it has
MAX_GUEST_WORK = 16 * 50 * 1024 * 1024  # pixel steps that one guest may have waiting: 16 pictures of 50 steps


class Turns:
    """The jobs that wait, in their order. Guarded by the queue's lock."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._served = 0

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job, running: Sequence[Job]) -> None:
        """Put a job behind those of its turn; within one, guests come after those whose machine it is."""
        last = max((each.turn for each in (*self._jobs, *running) if each.owner == job.owner), default=-1)
        job.turn = max(self._served, last + 1)
        self._insert(job)

    def next(self) -> Job | ChildJob:
        """Take out the job whose turn it is, or one of its children; while others are left, it stays."""
        job = self._jobs.pop(0)
        self._served = job.turn
        if not job.children.is_waiting:
            return job
        child = job.children.take()
        if job.children.is_waiting:
            self._insert(job)
        return child

    def remove(self, job: Job) -> None:
        self._jobs.remove(job)

    def before(self, job: Job) -> list[Job]:
        """Those that come before a job."""
        return self._jobs[:self._jobs.index(job)]

    def _insert(self, job: Job) -> None:
        self._jobs.insert(bisect_right(self._jobs, _place(job), key=_place), job)


def _place(job: Job) -> tuple[int, bool, bool]:
    """What the order goes by. One of whose children some have had their turn lets the others of its turn go first."""
    return job.turn, job.is_guest, job.children.have_begun


def check_room(job: Job, open_jobs: Iterable[Job], waiting: int) -> None:
    """Raise QueueFull for a job that is one too many. open_jobs: those that wait, and the one that runs."""
    open_jobs = tuple(open_jobs)
    if job.is_guest:
        _check_guest(job, [other for other in open_jobs if other.is_guest and other.owner == job.owner])
    else:  # guests cannot fill the owner's queue
        waiting -= sum(other.is_guest for other in open_jobs)
    if waiting >= MAX_WAITING:
        raise QueueFull(f"{MAX_WAITING} jobs are waiting already. Try again in a while.")
    mine = [other for other in open_jobs if (other.page or "") == (job.page or "")]
    if job.page and len(mine) >= MAX_PER_PAGE:
        raise QueueFull(f"This page has {MAX_PER_PAGE} jobs running or waiting already.")
    if not job.page and len(mine) >= MAX_OF_PROGRAMS:
        raise QueueFull(f"{MAX_OF_PROGRAMS} jobs of programs are waiting already. Try again in a while.")


def _check_guest(job: Job, theirs: list[Job]) -> None:
    if len(theirs) >= MAX_PER_GUEST:
        raise QueueFull(f"You have {MAX_PER_GUEST} jobs running or waiting already, which is the most for a guest.")
    work = job.work + sum(other.work for other in theirs)
    if work > MAX_GUEST_WORK:
        raise QueueFull(f"Together with what you have waiting this is {work / 1e6:,.0f} million pixel steps (pixels "
                        f"times steps times pictures). A guest may have {MAX_GUEST_WORK / 1e6:,.0f} million: ask for "
                        f"fewer pictures, fewer steps or a smaller size.")
