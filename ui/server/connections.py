"""Limits for connections, below HTTP: how many, from whom, and for how long one may say nothing.

uvicorn waits for ever for the rest of a request's head and has no limit on connections, so that a thousand half-sent
requests use up the files that a process may open, and nobody is answered any more. Where there are too many, the one
that has waited longest for its visitor gives way: those who send whole requests are served all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .sparse import Sparse

if TYPE_CHECKING:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol as HttpProtocol
else:  # which of uvicorn's classes serves, is known when the server has started
    from asyncio import Protocol as HttpProtocol

log = logging.getLogger(__name__)

MOST = 4096
FILES_OF_OTHERS = 256  # what the process itself keeps open
LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Limits:
    """total, per_peer: connections. head_s: for a request's head to arrive. write_s: of a visitor who reads nothing."""

    total: int = MOST
    per_peer: int = MOST // 2  # all visitors of a public link come from one address, that of the tunnel's end
    head_s: float = 15.0
    write_s: float = 60.0

    @classmethod
    def of_this_process(cls) -> Limits:
        """Raise the limit of open files as far as the system allows, and stay below it."""
        try:
            import resource
        except ImportError:  # Windows knows no such limit
            return cls()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST + FILES_OF_OTHERS
        if soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            except (OSError, ValueError):
                soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        total = max(16, min(MOST, soft - FILES_OF_OTHERS))
        return cls(total, max(8, total // 2))


@dataclass
class Open:
    """The open connections of a server. idle: those that wait for a head, the longest first; sending: for a body."""

    limits: Limits
    peers: Counter[str] = field(default_factory=Counter)
    idle: dict[Limited, None] = field(default_factory=dict)
    sending: dict[Limited, None] = field(default_factory=dict)
    lines: Sparse = field(default_factory=lambda: Sparse(log.warning, "closed connections"))

    def make_room(self, newest: Limited) -> None:
        """Close a connection if there are too many now: one that waits, else the newest."""
        peer = newest.peer
        if self.peers[peer] > self.limits.per_peer:
            self._close(newest, [each for each in (*self.idle, *self.sending) if each.peer == peer], peer)
        elif self.peers.total() > self.limits.total:
            self._close(newest, [*self.idle, *self.sending], "all addresses")

    def _close(self, newest: Limited, waiting: list[Limited], whose: str) -> None:
        victim = next((each for each in waiting if each is not newest), newest)
        self.lines(f"Too many connections of {whose}: the one that waited longest was closed.")
        victim.give_up()


class Limited(HttpProtocol):
    """One connection with limits. What it waits for is read off uvicorn's request cycle.

    late: closes it when no head has arrived in time. stuck: closes it when nobody reads what is sent.
    """

    opened: Open
    peer: str
    late: asyncio.TimerHandle | None
    stuck: asyncio.TimerHandle | None
    has_begun: bool

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.peer = self.client[0] if self.client else ""
        self.late = self.stuck = None
        self.has_begun = False
        self.opened.peers[self.peer] += 1
        self._note()
        self.opened.make_room(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.opened.peers[self.peer] -= 1
        if not self.opened.peers[self.peer]:
            del self.opened.peers[self.peer]
        self.opened.idle.pop(self, None)
        self.opened.sending.pop(self, None)
        for timer in (self.late, self.stuck):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.has_begun = True
        super().data_received(data)
        self._note()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._note()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.stuck is None:
            self.stuck = self.loop.call_later(self.opened.limits.write_s, self.give_up)

    def resume_writing(self) -> None:
        if self.stuck is not None:
            self.stuck.cancel()
            self.stuck = None
        super().resume_writing()

    def give_up(self) -> None:
        """Close the connection at once."""
        self.opened.idle.pop(self, None)
        self.opened.sending.pop(self, None)
        self.transport.abort()

    def _note(self) -> None:
        """Sort the connection by what it waits for, and set the clock for a head that is under way."""
        cycle = self.cycle
        # uvicorn calls an answer complete when the last of it is in the buffer, of which a visitor may still read.
        waits = (cycle is None or cycle.response_complete) and not self.transport.get_write_buffer_size()
        sends = not waits and cycle is not None and cycle.more_body
        for is_so, kept in ((waits, self.opened.idle), (sends, self.opened.sending)):
            if is_so:
                kept.setdefault(self)
            else:
                kept.pop(self, None)
        if not waits and self.late is not None:
            self.late.cancel()
            self.late = None
            self.has_begun = False
        elif waits and self.late is None and not self.transport.is_closing():
            self.late = self.loop.call_later(self.opened.limits.head_s, self._too_late)

    def _too_late(self) -> None:
        self.late = None
        if not self.transport.is_closing():
            if self.has_begun:
                self.transport.write(LATE)
            self.transport.close()

    def _should_upgrade(self) -> bool:
        return False  # no page of ours opens a websocket: it is answered as the request that it also is


def limited(base: type, opened: Open) -> type:
    """Return uvicorn's protocol class with limits."""
    return type("Limited", (Limited, base), {"opened": opened})


def limit(server: uvicorn.Server, limits: Limits | None = None) -> Open:
    """Give a started uvicorn server limits, which count from the next connection on."""
    opened = Open(limits or Limits.of_this_process())
    server.config.http_protocol_class = limited(server.config.http_protocol_class, opened)
    return opened
