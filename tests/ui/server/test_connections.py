"""Connections that say nothing, on a real server: they give way to those that do."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests import coroutines
from tests.ui import web
from ui.server import bodies
from ui.server.bodies import Body, Held
from ui.server.connections import LATE, Limits, limit
from ui.server.refused import Refused

HALF = b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "
Serve = Callable[[Limits], tuple[int, object]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server with these limits; returns its port, and what it knows of its connections."""
    started: list[uvicorn.Server] = []

    def start(limits: Limits) -> tuple[int, object]:
        app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("here")),
                                Route("/large", lambda _: PlainTextResponse("x" * 50_000_000))])
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.01)
        started.append(server)
        return server.servers[0].sockets[0].getsockname()[1], limit(server, limits)

    yield start
    for server in started:
        server.should_exit = server.force_exit = True


def half(port: int, source: str = "127.0.0.1") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(source, 0))
    made.sendall(HALF)
    return made


def is_closed(waiting: socket.socket) -> bool:
    """Wait until the other end has closed the connection; False when it answers meanwhile."""
    try:
        return waiting.recv(1) == b""
    except ConnectionError:
        return True


def test_half_sent_requests_do_not_keep_others_out(serve: Serve) -> None:
    port, opened = serve(Limits(total=20, per_peer=20))
    slow = [half(port) for _ in range(60)]
    assert all(is_closed(one) for one in slow[:40])  # the oldest gave way
    for _ in range(5):
        assert web.get(f"http://127.0.0.1:{port}/", timeout=60).text == "here"
    assert opened.peers.total() <= 20
    for one in slow:
        one.close()


def test_one_address_cannot_take_the_places_of_others(serve: Serve) -> None:
    port, opened = serve(Limits(total=100, per_peer=5))
    other = half(port, "127.0.0.2")
    flood = [half(port) for _ in range(30)]
    assert all(is_closed(one) for one in flood[:25])
    assert opened.peers["127.0.0.2"] == 1 and opened.peers["127.0.0.1"] == 5
    other.sendall(b"1\r\n\r\n")
    assert other.recv(100).startswith(b"HTTP/1.1 200")
    for one in (other, *flood):
        one.close()


@pytest.mark.parametrize("sent", [HALF, b"POST / HTTP/1.1\r\n"])
def test_a_head_has_a_deadline(serve: Serve, sent: bytes) -> None:
    port, _ = serve(Limits(head_s=0.2))
    with closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as slow:
        slow.sendall(sent)
        assert slow.recv(len(LATE)) == LATE and is_closed(slow)
    with closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as silent:
        assert is_closed(silent)


def test_who_reads_nothing_is_not_waited_for(serve: Serve) -> None:
    port, opened = serve(Limits(write_s=0.2))
    with closing(socket.create_connection(("127.0.0.1", port), timeout=60)) as deaf:
        deaf.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        closed = threading.Event()
        for _ in range(400):
            if not opened.peers:
                closed.set()
                break
            closed.wait(0.05)
        assert closed.is_set()
    assert web.get(f"http://127.0.0.1:{port}/", timeout=60).text == "here"


def test_a_request_that_is_whole_is_not_closed_for_a_newer_one(serve: Serve) -> None:
    port, _ = serve(Limits(total=3, per_peer=3))
    reading = socket.create_connection(("127.0.0.1", port), timeout=60)
    reading.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    assert reading.recv(8) == b"HTTP/1.1"
    slow = [half(port) for _ in range(10)]
    assert all(is_closed(one) for one in slow[:8])
    read = 0
    while read < 50_000_000 and (part := reading.recv(2**20)):
        read += len(part)
    assert read >= 50_000_000
    for one in (reading, *slow):
        one.close()


# Bodies


async def never() -> dict:
    await asyncio.Event().wait()
    return {}


def test_a_body_has_a_deadline_that_grows_with_what_came() -> None:
    async def reads(seen: int) -> None:
        await Body(never, 2**20, Refused(413, ""), wait_s=0.05, seen=seen)()

    with pytest.raises(Refused, match="too long") as caught:
        coroutines.run(reads(0))
    assert caught.value.status == 408
    with pytest.raises(TimeoutError):
        coroutines.run(asyncio.wait_for(reads(100 * bodies.BYTES_PER_S), 0.3))  # 100 s are left


def test_bodies_of_all_together_have_a_limit() -> None:
    held = Held(most=250)

    async def read() -> None:
        parts = iter([{"body": b"x" * 100, "more_body": True}] * 2 + [{"body": b""}])

        async def receive() -> dict:
            return next(parts)

        await Body(receive, 2**20, Refused(413, "")).whole(held)

    coroutines.run(read())
    with pytest.raises(Refused) as caught:
        coroutines.run(read())
    assert caught.value.status == 503
