"""The door of the web server: what Gradio leaves open by default is closed here, before any route runs.

Gradio trusts every origin as soon as the host is not localhost, answers any Host header, fetches links for
visitors and has many routes that the page never uses. `Guard` lets through only what the page and
`gradio_client` need, from our own pages, with a login wherever one is asked for. Every refusal is short plain text, in
the language of who is refused.
"""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.formparsers import MultiPartException
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.images.files import KINDS

from ..language import language_of, said
from .hosts import Hosts

MAX_UPLOAD_BYTES = 64 * 2**20  # one request; the editor sends several files of at most 20 MB together
OWN_UPLOAD_BYTES = 2 * 2**30  # on a page that others cannot reach: pictures to train on, or a zip of them
MAX_BODY_BYTES = 2 * 2**20  # every other request carries text only
MAX_PIXELS = KINDS["PNG"].largest_px  # of a photo that is made smaller, and of a sheet of pictures that was drawn here

# Without a login: the login page itself and its scripts. Everything else is closed to strangers.
PUBLIC = re.compile(r"/|/(login|theme\.css|favicon\.ico|robots\.txt|manifest\.json)/?|/(assets|static)/.+"
                    r"|/gradio_api/(startup-events|theme\.css)")
# With a login (where one is set). A route that a newer Gradio adds stays closed until it is named here.
PAGE = re.compile(r"/(config|logout)/?|/gradio_api/file=.+|/gradio_api/(heartbeat|run|call)/[^/]+(/[^/]+)?/?"
                  r"|/gradio_api/(info|user|login_check|app_id|upload|upload_progress|reset|cancel"
                  r"|queue/(join|data|status))/?")
FILE = "/gradio_api/file="
UPLOAD = "/gradio_api/upload"
LOGOUT = "/logout"
LINK = re.compile(r"\s*[a-z][a-z0-9+.-]+:", re.IGNORECASE)  # two letters and more: C: is a drive, not a scheme
SEEN = ("image/png", "image/jpeg", "image/webp", "image/gif")  # of a visitor's files, what a browser may show
FORGEABLE = (b"x-forwarded-for", b"x-real-ip", b"x-gradio-server", b"forwarded")

HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "same-origin",
    "x-robots-tag": "noindex, nofollow",
    # Inline script and style are how a Gradio page is built; what matters is that nothing is fetched from elsewhere.
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; "
                               "base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
}


class Refused(Exception):
    """A request that is not let in. status: the HTTP status; the text is the whole answer."""

    def __init__(self, status: int, text: str, retry_after_s: int = 0):
        super().__init__(text)
        self.status, self.retry_after_s = status, retry_after_s


class Throttle:
    """Counts wrong guesses of all visitors together: addresses can be forged, so they are not told apart."""

    def __init__(self, limit: int = 5, window_s: float = 60, clock: Callable[[], float] = time.monotonic):
        self._window_s, self._clock = window_s, clock
        self._wrong: deque[float] = deque(maxlen=limit)
        self._lock = threading.Lock()

    def wait_s(self) -> float:
        """Return how long no guess is looked at; 0 when one may be made."""
        with self._lock:
            if len(self._wrong) < (self._wrong.maxlen or 0):
                return 0
            return max(0.0, self._wrong[0] + self._window_s - self._clock())

    def wrong(self) -> None:
        """Note a wrong guess."""
        with self._lock:
            self._wrong.append(self._clock())


@dataclass
class Guard:
    """ASGI middleware that refuses what does not belong to a page of ours.

    hosts: the names we answer to. files_dir: the only folder that may be read over `file=`.
    throttle: None when no password is asked for. upload_bytes: most that one upload may bring. spare_bytes: what
    uploads leave free on the disk: they stay for a day, and there may be any number of them.
    """

    app: ASGIApp
    hosts: Hosts
    files_dir: Path
    throttle: Throttle | None = None
    upload_bytes: int = MAX_UPLOAD_BYTES
    spare_bytes: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or hand it on with a bounded body and without headers anyone can forge."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # no page of ours opens a websocket
            return await send({"type": "websocket.close", "code": 1008})
        headers = Headers(scope=scope)
        spoken = language_of(HTTPConnection(scope).cookies, headers)
        answering = _Answering(send, secure=headers.get("x-forwarded-proto", scope["scheme"]) == "https",
                               is_file=scope["path"].startswith(FILE))
        try:
            self._check(scope, headers)
            if scope["path"].rstrip("/") == LOGOUT:
                scope = _leaving_alone(scope)
            receive = await _bounded(scope, headers, receive, self.upload_bytes, spoken)
            kept = [header for header in scope["headers"] if self._is_believed(*header)]
            await self.app({**scope, "headers": kept}, receive, answering)
        except Refused as refused:
            if answering.started:
                raise
            retry = {"retry-after": str(refused.retry_after_s)} if refused.retry_after_s else {}
            await PlainTextResponse(said(str(refused), spoken), refused.status, retry)(scope, receive, answering)

    def _is_believed(self, name: bytes, value: bytes) -> bool:
        if name == b"x-forwarded-host":  # Gradio writes it into the page's addresses
            return value.decode("latin-1") in self.hosts
        return name not in FORGEABLE

    def _check(self, scope: Scope, headers: Headers) -> None:
        if len(headers.getlist("host")) != 1 or headers["host"] not in self.hosts:
            raise Refused(400, "This host name is not served here.")
        if self._is_foreign(headers):
            raise Refused(403, "Requests from other sites are not accepted.")
        path = scope["path"]
        if not (PUBLIC.fullmatch(path) or PAGE.fullmatch(path)):
            raise Refused(404, "Not found.")
        if any(name == "deep_link" for name, _ in parse_qsl(scope["query_string"].decode("latin-1"))):
            raise Refused(404, "Deep links are switched off.")
        if path.startswith(FILE) and not self._is_ours(path.removeprefix(FILE)):
            raise Refused(403, "This file is not served.")
        if self.spare_bytes and path.rstrip("/") == UPLOAD:
            self.files_dir.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.files_dir).free < self.spare_bytes:
                raise Refused(507, "The disk is almost full, so nothing can be uploaded.")
        if self.throttle and scope["method"] == "POST" and path.rstrip("/") == "/login":
            wait_s = self.throttle.wait_s()
            if wait_s > 0:
                raise Refused(429, f"Too many wrong passwords. Try again in {wait_s:.0f} seconds.", int(wait_s) + 1)
        if not PUBLIC.fullmatch(path) and not _is_logged_in(scope):
            raise Refused(401, "Please log in first.")

    def _is_foreign(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is not None:
            return not self.hosts.is_own(origin, headers["host"])
        # Pictures and scripts that another site embeds carry no Origin. A link that somebody follows is fine.
        return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"

    def _is_ours(self, target: str) -> bool:
        if LINK.match(target) or LINK.match(unquote(target)):  # the second for a link that was encoded twice
            return False
        try:
            return Path(target).resolve().is_relative_to(self.files_dir.resolve())
        except (OSError, ValueError):  # a NUL, a name too long
            return False


class _Answering:
    """A send function that adds the security headers and remembers whether the answer has begun."""

    def __init__(self, send: Send, secure: bool, is_file: bool):
        self._send, self._secure, self._is_file, self.started = send, secure, is_file, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            if self._is_file and message["status"] < 300 and headers.get("content-type") not in SEEN:
                # Somebody uploaded it: opened as a page, it would act in the name of whoever follows its link.
                headers.update({"content-type": "application/octet-stream", "content-disposition": "attachment"})
            cookies = headers.getlist("set-cookie")
            del headers["set-cookie"]
            for cookie in cookies:
                headers.append("set-cookie", self._stricter(cookie))
        await self._send(message)

    def _stricter(self, cookie: str) -> str:
        # Gradio's login cookie is SameSite=None: every site that a visitor opens could use it.
        cookie = re.sub(r"samesite=none", "SameSite=lax", cookie, flags=re.IGNORECASE)
        is_secure = re.search(r";\s*secure\b", cookie, re.IGNORECASE)
        return cookie if is_secure or not self._secure else f"{cookie}; Secure"


async def _bounded(scope: Scope, headers: Headers, receive: Receive, upload_bytes: int, spoken: str) -> Receive:
    """Return a receive function that never gives more than the cap; raise Refused for a body that holds a link.

    spoken: the language of the answer that Gradio gives in our place.
    """
    is_upload = scope["path"].rstrip("/") == UPLOAD
    limit = upload_bytes if is_upload else MAX_BODY_BYTES
    text = f"The request is over the maximum allowed size of {limit // 2**20} MB."
    declared = headers.get("content-length", "0")
    if not declared.isdecimal() or int(declared) > limit:
        raise Refused(413, text)
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            # Gradio's own exception makes it delete the parts it has stored; it answers 413 with this text.
            raise MultiPartException(said(text, spoken)) if is_upload else Refused(413, text)
        return message

    if is_upload or scope["method"] != "POST":
        return counted
    body, more = bytearray(), True
    while more:
        message = await counted()
        body += message.get("body", b"")
        more = message.get("more_body", False)  # absent when the visitor is gone
    if _holds_link(bytes(body)):
        raise Refused(403, "Links are not fetched. Upload the picture instead.")
    replayed = iter([{"type": "http.request", "body": bytes(body), "more_body": False}])

    async def replay() -> Message:
        return next(replayed, None) or await receive()

    return replay


def _holds_link(body: bytes) -> bool:
    """Tell whether a JSON body gives a file as a link, which Gradio would fetch for the visitor."""
    try:
        waiting = [json.loads(body)]
    except RecursionError:
        raise Refused(400, "The request is nested too deeply.") from None
    except ValueError:  # not JSON: the route itself refuses it, or it is the login form
        return False
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if isinstance(path, str) and LINK.match(path):
                return True
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return False


def _is_logged_in(scope: Scope) -> bool:
    return scope["app"].auth is None or any(token in scope["app"].tokens for token in _tokens(scope))


def _tokens(scope: Scope) -> list[str | None]:
    """What the visitor shows as a token of Gradio's /login; the Gradio app holds those that it gave out."""
    cookies, own = HTTPConnection(scope).cookies, scope["app"].cookie_id
    return [cookies.get(f"access-token-{own}"), cookies.get(f"access-token-unsecure-{own}")]


def _leaving_alone(scope: Scope) -> Scope:
    """Log out this visitor: Gradio would log out all who use the same name, and here they all do."""
    for token in _tokens(scope):
        scope["app"].tokens.pop(token, None)
    return {**scope, "query_string": b"all_session=false"}


def limit_decoders(formats: Iterable[str] = tuple(KINDS), max_pixels: int = MAX_PIXELS) -> None:
    """Let Pillow's Image.open take only these formats, and no picture of more pixels.

    Gradio's components decode uploads before our code runs, and would try more than forty formats. Pictures to start
    from are no component's: they are decoded by pipelines/images, which makes larger ones smaller.
    """
    from PIL import Image

    Image.init()
    Image.ID[:] = [name for name in Image.ID if name in formats]
    Image.MAX_IMAGE_PIXELS = max_pixels // 2  # Pillow refuses at twice this
