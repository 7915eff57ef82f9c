"""What stands before all else in a page: a script that runs before all others, and the looks of the login.

Gradio puts its own `head` in only after asking for a language, and on the page where one logs in not at all.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEAD = b"<head>"


@cache
def script() -> bytes:
    """The script and the style sheet as they stand in a page."""
    here = Path(__file__)
    style = here.parents[1].joinpath("static", "login.css").read_bytes()
    return b"<style>\n" + style + b"</style><script>\n" + here.with_name("first.js").read_bytes() + b"</script>"


@dataclass
class First:
    """ASGI middleware that puts the script at the beginning of every page, and sends pages compressed."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, and hold the beginning of a page back until its length is known."""
        held: list[Message] = []
        packed = scope["type"] == "http" and "gzip" in Headers(scope=scope).get("accept-encoding", "")

        async def put_in(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_page(message):
                held.append(message)
                return
            if held:
                start, body = held.pop(), message["body"].replace(HEAD, HEAD + script(), 1)
                headers = MutableHeaders(raw=start["headers"])
                # Over a public link a page takes seconds otherwise.
                if packed and body and not message.get("more_body"):
                    body = gzip.compress(body, compresslevel=1)
                    headers["content-encoding"] = "gzip"
                    headers.add_vary_header("accept-encoding")
                if "content-length" in headers:
                    longer = len(body) - len(message["body"])
                    headers["content-length"] = str(int(headers["content-length"]) + longer)
                await send(start)
                message = {**message, "body": body}
            await send(message)

        await self.app(scope, receive, put_in if scope["type"] == "http" else send)


def _is_page(message: Message) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in message["headers"])
