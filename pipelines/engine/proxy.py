"""An engine in a process of its own, called like one in this: a crash costs one job, and nothing of the app.

Spawned, never forked: CUDA does not survive a fork. Not a thread: loading in two threads at once leaves torch patched
for the whole process (diffusers and transformers exchange its functions while they build a network, and put back what
each has found).
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection
from threading import Lock
from time import monotonic
from typing import Any

from ..errors import Cancelled, EngineLost
from ..events import Event
from ..library.read.card import ModelCard
from ..queue.control import Control
from ..settings import Settings
from .order import Order
from .process import Controls, Ended, Need, Run, Vacate, serve
from .report import Predicts, Speak, Standing, in_english

log = logging.getLogger(__name__)

TICK_S = 0.05  # how late a control may reach the engine between two events
ANSWER_S = 60.0  # a question waits for the engine's start
END_S = 2.0  # what an engine has to end by itself


@dataclass(frozen=True)
class Link:
    """A process that was started, and the pipes to it. They close when nobody holds them any more."""

    process: Any
    jobs: Connection
    answers: Connection
    numbers: Iterator[int]


class EngineProcess:
    """Starts its process when it is first needed, and again when that has ended. settings: with one device.

    One thread runs orders; questions may be asked by any. speak: a function of a module, which the process imports.
    Locks: _lock guards the link and is never held while anything is waited for but the end of a killed process;
    _questions is held while an answer is waited for.
    """

    def __init__(self, settings: Settings, speak: Speak = in_english):
        self.settings, self._speak = settings, speak
        self.standing = Standing()
        self._link: Link | None = None
        self._closed = False
        self._lock, self._questions = Lock(), Lock()

    def open(self) -> Link:
        """Start the process, which takes seconds, without waiting for it. Raises EngineLost after `close`."""
        with self._lock:
            if self._closed:
                raise EngineLost("The app ends.")
            if self._link is None or not self._link.process.is_alive():
                self._drop()
                self._link = self._start()
            return self._link

    @property
    def pid(self) -> int | None:
        """The process, None while there is none."""
        link = self._link
        return link.process.pid if link else None

    def run(self, order: Order, control: Control | None = None) -> Iterator[Event | Predicts]:
        """As Engine.run. Raises EngineLost when the process ends meanwhile."""
        yield from self._ask(Run(order), control or Control())

    def vacate(self) -> None:
        """Leave the device to another process."""
        link = self._link
        if link is not None and link.process.is_alive():
            for _ in self._ask(Vacate(), Control()):
                pass

    def need(self, card: ModelCard, width: int, height: int, batch_size: int = 1, guided: bool = True) -> str:
        """As Engine.need; "" when there is no answer in time."""
        link = self.open()
        with self._questions:
            number = next(link.numbers)
            try:
                link.answers.send(Need(number, (card, width, height, batch_size, guided)))
                end = monotonic() + ANSWER_S
                while link.answers.poll(max(0.0, end - monotonic())):
                    answer = link.answers.recv()
                    if answer.number == number:  # else one that came too late
                        break
                else:
                    return ""
            except (EOFError, OSError):
                return ""
        if answer.error is not None:
            raise answer.error
        return answer.text

    def forget(self) -> None:
        """End the process, with whatever it holds or hangs in; the next order starts another."""
        with self._lock:
            self._drop()

    def close(self) -> None:
        """End the process for good."""
        with self._lock:
            self._closed = True
            self._drop()

    def _start(self) -> Link:
        spawning = multiprocessing.get_context("spawn")
        jobs, their_jobs = spawning.Pipe()
        answers, questions = spawning.Pipe()
        process = spawning.Process(target=serve, args=(their_jobs, questions, self.settings, self._speak),
                                   name="engine", daemon=True)
        process.start()
        their_jobs.close()  # in this process: else the pipes would not end with the other
        questions.close()
        return Link(process, jobs, answers, count())

    def _drop(self) -> None:
        link, self._link, self.standing = self._link, None, Standing()
        if link is not None:
            link.process.kill()
            link.process.join(END_S)

    def _ask(self, what: Run | Vacate, control: Control) -> Iterator[Event | Predicts]:
        link = self.open()
        told, is_answered = Controls(), False
        try:
            link.jobs.send(what)
            while not is_answered:
                told = _tell(link.jobs, told, control)
                if not link.jobs.poll(TICK_S):
                    continue
                message = link.jobs.recv()
                if isinstance(message, Standing):
                    self.standing = message
                elif isinstance(message, Ended):
                    is_answered = True
                    if message.error is not None:
                        raise message.error
                else:
                    yield message
        except (EOFError, OSError):
            is_answered = True
            if self._closed:
                raise Cancelled("Stopped.") from None
            raise EngineLost(_how_it_ended(link)) from None
        finally:
            if not is_answered:  # the caller closed this generator before the order had ended
                _drain(link.jobs)


def _drain(jobs: Connection) -> None:
    """Stop what runs and pass over what it still says, so that the next order is answered by its own events."""
    with suppress(EOFError, OSError):
        jobs.send(Controls(stop=True))
        while not isinstance(jobs.recv(), Ended):
            pass


def _how_it_ended(link: Link) -> str:
    """Say what became of the process, in words for the person at the page."""
    link.process.join(END_S)
    code = link.process.exitcode
    log.error("the engine's process has ended (exit code %s)", code)
    if code == -getattr(signal, "SIGKILL", 9):
        return ("The process that computes was killed, as the system does when memory runs out. This job is lost; the "
                "next one starts a new process.")
    return "The process that computes has ended by itself. This job is lost; the next one starts a new process."


def _tell(pipe: Connection, told: Controls, control: Control) -> Controls:
    """Send the controls when they have changed; returns what the engine knows."""
    now = Controls(control.stop.is_set(), control.leave.is_set())
    skip = control.skipped()
    if skip or now != told:
        pipe.send(Controls(now.stop, now.leave, skip))
    return now
