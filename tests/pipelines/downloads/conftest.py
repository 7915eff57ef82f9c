"""A server on loopback that stands in for the hub, for Civitai and for the store that they send on to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from pipelines.downloads import Downloads
from pipelines.downloads.network import Network
from pipelines.downloads.sources import Sites


class Server(ThreadingHTTPServer):
    """files: path -> bytes. pages: path -> JSON value. moved: path -> address. asked: (path, headers) of every request.
    The sites under /hub and /civitai show the same.

    etag: of every file. break_after: bytes after which the next answers end, one number an answer. gate: called before
    each chunk of a file. ranges: whether parts of a file can be asked for.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.pages: dict[str, object] = {}
        self.moved: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.break_after: list[int] = []
        self.gate: Callable[[int], None] = lambda sent: None
        self.etag, self.ranges = '"one"', True

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.asked]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.path = self.path.removeprefix("/hub").removeprefix("/civitai")
        path = self.path.partition("?")[0]
        self.server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if path in self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved[path])
            self.end_headers()
        elif self.path in self.server.pages:
            self._send(json.dumps(self.server.pages[self.path]).encode())
        elif path in self.server.files:
            self._file(self.server.files[path])
        else:
            self.send_error(404)

    def _file(self, data: bytes) -> None:
        asked = self.headers.get("Range", "")
        begin = int(asked.removeprefix("bytes=").rstrip("-") or 0)
        if self.headers.get("If-Range", self.server.etag) != self.server.etag or not self.server.ranges:
            begin = 0
        if begin and begin >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", self.server.etag)
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        stop = begin + (self.server.break_after.pop(0) if self.server.break_after else len(data))
        for at in range(begin, min(stop, len(data)), 1 << 16):
            self.server.gate(at)
            self.wfile.write(data[at:min(at + (1 << 16), stop)])

    def _send(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # who pauses hangs up
            super().handle()


@contextmanager
def serving() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def server():
    with serving() as made:
        yield made


@pytest.fixture
def network(server) -> Network:
    return Network((server.origin,))


@pytest.fixture
def sites(server) -> Sites:
    return Sites(f"{server.origin}/hub", f"{server.origin}/civitai")


@pytest.fixture
def downloads(server, sites, tmp_path):
    """Make Downloads in tmp_path/data; all that were made are closed in the end."""
    made = []

    def downloads(**changes) -> Downloads:
        token = {server.origin.removeprefix("http://"): SecretStr("a-secret-token")}
        made.append(Downloads(tmp_path / "data", **{"hosts": (server.origin,), "tokens": token, "sites": sites,
                                                    **changes}))
        return made[-1]
    yield downloads
    for one in made:
        one.close()
