"""What requests bring: bounded in size and in time, without links, and with addresses that are the visitor's own."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.types import Message, Receive

from .addresses import PREFIX, Addresses
from .refused import Refused

MAX_BODY_BYTES = 2 * 2**20  # every request but an upload carries text only
MAX_LOGIN_BYTES = 8 * 2**10  # a name and a password; the only body that is read of who has not logged in
MAX_HELD_BYTES = 64 * 2**20  # of all requests at once: each is read whole before it is looked at
BODY_S = 15.0  # a body has this long, and more for what has come of it:
BYTES_PER_S = 16 * 2**10
LINK = re.compile(r"\s*[a-z][a-z0-9+.-]+:", re.IGNORECASE)  # two letters and more: C: is a drive, not a scheme


@dataclass
class Held:
    """Bytes of bodies that are in memory."""

    bytes: int = 0
    most: int = MAX_HELD_BYTES

    def add(self, count: int) -> None:
        """Note more of them. Raise Refused where the memory for bodies is full."""
        if self.bytes + count > self.most:
            raise Refused(503, "The server is busy. Try again in a while.", 10)
        self.bytes += count


@dataclass
class Body:
    """The body of one request, read no further than `limit` and no slower than a slow phone sends."""

    receive: Receive
    limit: int
    too_large: Exception  # what is raised over the limit
    wait_s: float = BODY_S
    seen: int = 0
    kept: int = 0  # bytes that `held` counts
    _began: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    _is_whole: bool = False

    async def __call__(self) -> Message:
        """Receive the next part. Once all of it is here, whoever waits waits for the visitor to go."""
        if self._is_whole:
            return await self.receive()
        until = self._began + self.wait_s + self.seen / BYTES_PER_S
        try:
            async with asyncio.timeout_at(until):
                message = await self.receive()
        except TimeoutError:
            raise Refused(408, "The request took too long to arrive.") from None
        self.seen += len(message.get("body", b""))
        if self.seen > self.limit:
            raise self.too_large
        self._is_whole = not message.get("more_body", False)  # absent when the visitor is gone
        return message

    async def whole(self, held: Held) -> bytes:
        """Read all of it. held: counts it; the caller gives `kept` back."""
        parts = bytearray()
        while not self._is_whole:
            part = (await self()).get("body", b"")
            held.add(len(part))
            self.kept += len(part)
            parts += part
        return bytes(parts)


def bounded(headers: Headers, receive: Receive, limit: int, told: Callable[[str], str] | None = None) -> Body:
    """Return a request's body. Raise Refused at once when it says that it is larger than `limit`.

    told: for an upload, the refusal in the visitor's language: Gradio answers in our place.
    """
    size = f"{limit // 2**20} MB" if limit >= 2**20 else f"{limit // 2**10} kB"
    text = f"The request is over the maximum allowed size of {size}."
    declared = headers.get("content-length", "0")
    if not declared.isdecimal() or len(declared) > 15 or int(declared) > limit:
        raise Refused(413, text)
    # Gradio's own exception makes it delete the parts of an upload that it has stored.
    return Body(receive, limit, MultiPartException(told(text)) if told else Refused(413, text))


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a receive function that gives a body that was read already."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def parsed(body: bytes) -> object:
    """Read a JSON body; None for what is none: the route itself refuses it."""
    try:
        return json.loads(body)
    except RecursionError:
        raise Refused(400, "The request is nested too deeply.") from None
    except ValueError:
        return None


def led_back(data: object, addresses: Addresses, visitor: str) -> bool:
    """Put places of files in the place of the visitor's addresses; return whether there was one.

    Raise Refused for a link, which Gradio would fetch for the visitor, and for a file that is not theirs.
    """
    changed = False
    for given in _dicts(data):
        path = given.get("path")
        if not isinstance(path, str):
            continue
        if LINK.match(path):
            raise Refused(403, "Links are not fetched. Upload the picture instead.")
        if not path.startswith(PREFIX) and not addresses.holds(path):
            continue  # no file of the cache: Gradio refuses it
        place = addresses.place(path, visitor)
        if place is None:
            raise Refused(403, "This file is not yours, or no longer here. Upload it again.")
        given["path"], changed = str(place), True
    return changed


def _dicts(data: object) -> Iterator[dict]:
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
