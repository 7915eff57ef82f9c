"""An engine's own process: takes orders from one pipe and writes events into it, answers questions on another.

Two threads beside the one that works: one reads orders and controls, one answers questions. Each pipe has one writer.
When the app is gone its pipes end, and so does this process, in whatever it is.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from ..errors import StudioError
from ..machine.device import prepare_environment
from ..queue.control import Control
from ..settings import Settings
from .order import Order

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """Work at an order. It is answered by its events, then by Ended."""

    order: Order


@dataclass(frozen=True)
class Vacate:
    """Leave the device to another process. It is answered by Ended."""


@dataclass(frozen=True)
class Controls:
    """How the running order is to end, as it stands now; skip: once."""

    stop: bool = False
    leave: bool = False
    skip: bool = False


@dataclass(frozen=True)
class Ended:
    """What was asked for is done. error: what it failed with."""

    error: StudioError | None = None


@dataclass(frozen=True)
class Need:
    """Ask how much memory pictures will take; the arguments of Engine.need. number: is in its Answer."""

    number: int
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Answer:
    """What a question was answered by."""

    number: int
    text: str = ""
    error: StudioError | None = None


def serve(jobs: Connection, questions: Connection, settings: Settings, speak: Callable[[str], Any]) -> None:
    """Be an engine until the pipes end. The main function of its process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal; the app ends this one
    logging.basicConfig(level=settings.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    prepare_environment(os.environ, offline=settings.offline)
    asked: SimpleQueue[tuple[Run | Vacate, Control]] = SimpleQueue()
    is_ready = Event()
    Thread(target=_read, args=(jobs, asked), name="orders", daemon=True).start()
    import torch

    from .engine import Engine

    if settings.threads:
        torch.set_num_threads(settings.threads)
    engine = Engine(settings, speak)
    Thread(target=_answer, args=(questions, engine, is_ready), name="questions", daemon=True).start()
    try:
        engine.open()
    except StudioError as error:  # such as a device that is not here: said by the first order
        log.warning("%s", error)
    is_ready.set()
    while True:
        what, control = asked.get()
        jobs.send(Ended(_work(jobs, engine, what, control)))


def _read(jobs: Connection, asked: SimpleQueue) -> None:
    """Take what the app sends: orders in their turn, controls at once."""
    control = Control()
    try:
        while True:
            message = jobs.recv()
            if isinstance(message, Controls):
                _set(control, message)
                continue
            control = Control()
            asked.put((message, control))
    except (EOFError, OSError):
        os._exit(0)  # no finally blocks of libraries, which may be in the middle of anything


def _set(control: Control, asked: Controls) -> None:
    for event, wanted in ((control.stop, asked.stop), (control.leave, asked.leave)):
        event.set() if wanted else event.clear()
    if asked.skip:
        control.skip.set()


def _work(jobs: Connection, engine: Any, what: Run | Vacate, control: Control) -> StudioError | None:
    """Do what was asked, and return what it failed with."""
    try:
        if isinstance(what, Vacate):
            engine.vacate()
        else:
            with closing(engine.run(what.order, control)) as events:
                for event in events:
                    jobs.send(event)
    except StudioError as error:
        return error.with_traceback(None)
    except BaseException:  # even SystemExit from a library
        error_id = secrets.token_hex(3)
        log.exception("an order failed (id %s)", error_id)
        return StudioError(f"Something went wrong (id {error_id}). The log of the app says more.")
    finally:
        jobs.send(engine.standing)
    return None


def _answer(questions: Connection, engine: Any, is_ready: Event) -> None:
    """Answer while the engine works at something else."""
    is_ready.wait()
    try:
        while True:
            asked = questions.recv()
            questions.send(_answer_to(asked, engine))
    except (EOFError, OSError):
        return


def _answer_to(asked: Need, engine: Any) -> Answer:
    try:
        return Answer(asked.number, engine.need(*asked.arguments))
    except StudioError as error:
        return Answer(asked.number, error=error.with_traceback(None))
    except Exception:  # a foreign error must not end the thread: the next question would wait for nobody
        log.exception("a question could not be answered")
        return Answer(asked.number)
