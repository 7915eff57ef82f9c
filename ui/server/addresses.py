"""Addresses of files: each is good for one visitor alone, and none tells where the data folder lies.

Gradio names a file by its place on the disk, and whoever has the name may read it. On the way out the place becomes
/files/<signature>/<name in the cache>, signed for the visitor who is told; on the way in only that visitor's own
address leads back to the file. Nothing needs to be remembered, so an address outlives a restart.
"""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..visitors import VISITOR_HEADER, Visitors

PREFIX = "/files/"
ADDRESS = re.compile(re.escape(PREFIX) + r"([0-9a-f]{32})/(.+)", re.DOTALL)
TOLD = (b"text/html", b"application/json", b"text/event-stream")  # kinds of answers in which a file may be named


@dataclass(frozen=True)
class Addresses:
    """Between places in the cache and a visitor's addresses. files_dir: the cache."""

    files_dir: Path
    visitors: Visitors

    def hide(self, text: bytes, visitor: str) -> bytes:
        """Put the visitor's addresses in the place of every file of the cache that JSON or HTML names."""
        return self._places.sub(lambda found: self._address(found[1], visitor), text)

    def place(self, address: str, visitor: str) -> Path | None:
        """Return the file that this visitor's address leads to; None for any other address."""
        found = ADDRESS.fullmatch(address)
        if not found or not hmac.compare_digest(found[1], self.visitors.sign("file", visitor, found[2])):
            return None
        return self.files_dir / found[2]

    def holds(self, path: str) -> bool:
        """Tell whether a path lies in the cache, however it is spelled."""
        try:
            return Path(path).resolve().is_relative_to(self.files_dir)
        except (OSError, ValueError):  # a NUL, a name too long
            return False

    @property
    def _places(self) -> re.Pattern[bytes]:
        spelled = json.dumps(str(self.files_dir), ensure_ascii=False)[1:-1]
        return re.compile(re.escape(spelled.encode()) + rb'((?:[^"\\<>?#\r\n]|\\\\)*)')

    def _address(self, rest: bytes, visitor: str) -> bytes:
        name = rest.replace(b"\\\\", b"/").decode("utf-8", "replace").strip("/")
        return f"{PREFIX}{self.visitors.sign('file', visitor, name)}/{name}".encode()


@dataclass
class Hiding:
    """ASGI middleware that hides places in whatever an answer tells."""

    app: ASGIApp
    addresses: Addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on; the beginning of an answer of known length waits for the length to be right."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        visitor = Headers(scope=scope).get(VISITOR_HEADER, "")
        held: list[Message] = []
        tells = False

        async def hiding(message: Message) -> None:
            nonlocal tells
            if message["type"] == "http.response.start":
                kind = Headers(raw=message["headers"]).get("content-type", "").encode()
                tells = kind.startswith(TOLD)
                if tells:
                    held.append(message)
                    return
            elif tells and message["type"] == "http.response.body":
                body = self.addresses.hide(message.get("body", b""), visitor)
                if held:
                    await send(_lengthened(held.pop(), len(body) - len(message.get("body", b""))))
                message = {**message, "body": body}
            await send(message)

        await self.app(scope, receive, hiding)


def _lengthened(start: Message, by: int) -> Message:
    headers = MutableHeaders(raw=list(start["headers"]))
    if by and "content-length" in headers:
        headers["content-length"] = str(int(headers["content-length"]) + by)
    return {**start, "headers": headers.raw}
