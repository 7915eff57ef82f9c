"""The door of the web server: what Gradio leaves open by default is closed here, before any route runs.

Gradio trusts every origin as soon as the host is not localhost, answers any Host header, fetches links for
visitors and has many routes that the page never uses. `Guard` lets through only what the page and
`gradio_client` need, from our own pages, with a login wherever one is asked for. Every refusal is short plain text, in
the language of who is refused.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.images.files import KINDS

from ..language import language_of, said
from ..visitors import RIGHTS_HEADER, VISITOR_HEADER, Visitor, Visitors
from .addresses import Addresses
from .answering import Answering
from .bodies import LINK, MAX_BODY_BYTES, MAX_LOGIN_BYTES, Held, bounded, led_back, parsed, replayed
from .calls import Calls
from .hosts import Hosts
from .logins import Throttle, counted_as
from .refused import Refused
from .sparse import Sparse, in_short

log = logging.getLogger(__name__)

MAX_UPLOAD_BYTES = 64 * 2**20  # one request; the editor sends several files of at most 20 MB together
OWN_UPLOAD_BYTES = 2 * 2**30  # on a page that others cannot reach: pictures to train on, or a zip of them
MAX_REQUESTS = 64  # of one visitor at once; a page keeps two open
MAX_PIXELS = KINDS["PNG"].largest_px  # of a photo that is made smaller, and of a sheet of pictures that was drawn here

# Without a login: the login page itself and its scripts. Everything else is closed to strangers.
PUBLIC = re.compile(r"/|/(login|theme\.css|favicon\.ico|robots\.txt|manifest\.json)/?|/(assets|static)/.+"
                    r"|/gradio_api/(startup-events|theme\.css)")
# With a login (where one is set). A route that a newer Gradio adds stays closed until it is named here.
PAGE = re.compile(r"/(config|logout)/?|/gradio_api/file=.+|/gradio_api/(heartbeat|run|call)/[^/]+(/[^/]+)?/?"
                  r"|/gradio_api/(info|user|login_check|app_id|upload|upload_progress|reset|cancel"
                  r"|queue/(join|data|status))/?")
OWNER = "owner"  # the name under which Gradio keeps the login of the owner's link
FILE, UPLOAD = "/gradio_api/file=", "/gradio_api/upload"
LOGIN, LOGOUT = "/login", "/logout"
FORGEABLE = (b"x-forwarded-for", b"x-real-ip", b"x-gradio-server", b"forwarded",
             VISITOR_HEADER.encode(), RIGHTS_HEADER.encode())


@dataclass
class Guard:
    """ASGI middleware that refuses what does not belong to a page of ours, and says who asks.

    hosts: the names we answer to. files_dir: the only folder that may be read over `file=`. throttle: None when no
    password is asked for. upload_bytes: most that one upload may bring. spare_bytes: what uploads leave free on the
    disk, where any number may stay for a day. is_public: whether others than the owner can reach the page. calls: what
    each event takes; None takes whatever comes.
    """

    app: ASGIApp
    hosts: Hosts
    files_dir: Path
    throttle: Throttle | None = None
    upload_bytes: int = MAX_UPLOAD_BYTES
    spare_bytes: int = 0
    visitors: Visitors = field(default_factory=Visitors)
    is_public: bool = False
    calls: Calls | None = None
    held: Held = field(default_factory=Held)
    open: Counter[str] = field(default_factory=Counter)
    lines: Sparse = field(default_factory=lambda: Sparse(log.error, "errors"))

    def __post_init__(self) -> None:
        self.addresses = Addresses(self.files_dir.resolve(), self.visitors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or hand it on with a bounded body and without headers anyone can forge."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # no page of ours opens a websocket
            return await send({"type": "websocket.close", "code": 1008})
        headers = Headers(scope=scope)
        cookies = HTTPConnection(scope).cookies
        spoken = language_of(cookies, headers)
        answering = Answering(send, secure=headers.get("x-forwarded-proto", scope["scheme"]) == "https",
                               is_file=scope["path"].startswith(FILE))
        try:
            self._check(scope, headers)
            visitor = self._visitor(scope, self.visitors.read(cookies))
            if self._opens_for_owner(scope):
                return await self._let_owner_in(scope, receive, answering, visitor)
            if self._is_new(scope, visitor):
                visitor = self.visitors.welcome(visitor)
                answering.cookie = self.visitors.cookie(visitor)
            with self._counted(scope, visitor):
                await self._serve(scope, headers, receive, answering, visitor, spoken)
        except Refused as refused:
            if answering.started:
                raise
            retry = {"retry-after": str(refused.retry_after_s)} if refused.retry_after_s else {}
            await PlainTextResponse(said(str(refused), spoken), refused.status, retry)(scope, receive, answering)
        except Exception as error:
            # uvicorn would write a page of traceback for each of them.
            id = secrets.token_hex(3)
            self.lines(f"{scope['method']} {scope['path'][:80]} failed (id {id}): {in_short(error)}")
            if answering.started:
                return
            text = said(f"Something went wrong (id {id}). The log of the app says more.", spoken)
            await PlainTextResponse(text, 500)(scope, receive, answering)

    async def _serve(self, scope: Scope, headers: Headers, receive: Receive, answering: Answering,
                     visitor: Visitor, spoken: str) -> None:
        """Hand a request on that was let in."""
        path, limit = scope["path"].rstrip("/"), self.upload_bytes
        if path == LOGOUT:
            scope = _leaving_alone(scope)
        if path == UPLOAD:
            return await self._hand_on(scope, bounded(headers, receive, limit, lambda text: said(text, spoken)),
                                       answering, visitor)
        is_login = path == LOGIN and scope["method"] == "POST"
        body = bounded(headers, receive, MAX_LOGIN_BYTES if is_login else MAX_BODY_BYTES)
        if scope["method"] != "POST":
            return await self._hand_on(scope, body, answering, visitor)
        try:
            content = await body.whole(self.held)
            if is_login:
                return await self._log_in(scope, replayed(content, receive), answering, visitor)
            given = parsed(content)
            changed = led_back(given, self.addresses, visitor.id)
            if self.calls:
                changed |= self.calls.check(path, given)
            if changed:
                content = json.dumps(given).encode()
                scope = {**scope, "headers": [(name, str(len(content)).encode() if name == b"content-length" else value)
                                              for name, value in scope["headers"]]}
            await self._hand_on(scope, replayed(content, receive), answering, visitor)
        finally:
            self.held.bytes -= body.kept

    async def _hand_on(self, scope: Scope, receive: Receive, answering: Answering, visitor: Visitor) -> None:
        kept = [header for header in scope["headers"] if self._is_believed(*header)]
        if scope["path"].startswith(FILE):
            place = self.addresses.place(scope["path"].removeprefix(FILE), visitor.id)
            if place is None or not self._is_ours(str(place)):
                raise Refused(403, "This file is not served.")
            scope = {**scope, "path": f"{FILE}{place}", "raw_path": quote(f"{FILE}{place}").encode()}
        await self.app({**scope, "headers": [*kept, *visitor.headers]}, receive, answering)

    async def _log_in(self, scope: Scope, receive: Receive, answering: Answering, visitor: Visitor) -> None:
        """Let a guess wait for its turn, and remember how it ended."""
        if (throttle := self.throttle) is None:
            return await self._hand_on(scope, receive, answering, visitor)
        device = self.visitors.read(HTTPConnection(scope).cookies)
        peer = scope["client"][0] if scope.get("client") else ""
        whose = counted_as(device, peer, through_link=self.hosts.is_shared(Headers(scope=scope).get("host", "")))
        await throttle.turn(whose)

        def ended(status: int) -> None:
            if status == 200:
                throttle.right(whose, device.has_logged_in)
                answering.cookie = self.visitors.cookie(self.visitors.welcome(device, has_logged_in=True))
            else:
                throttle.wrong(whose)

        answering.tell = ended
        await self._hand_on(scope, receive, answering, visitor)

    def _visitor(self, scope: Scope, shown: Visitor) -> Visitor:
        """Who asks. Where there is a login, a cookie counts that came of one: others can be had for the asking."""
        if scope["app"].auth is None:
            return Visitor(shown.id, is_owner=True)
        token = next((token for token in _tokens(scope) if token in scope["app"].tokens), None)
        if token is None:
            return Visitor()
        if not shown.has_logged_in:
            shown = Visitor(f"login-{self.visitors.sign('login', token)}", has_logged_in=True)
        return replace(shown, is_owner=shown.is_owner or not self.is_public)

    def _is_new(self, scope: Scope, visitor: Visitor) -> bool:
        return not visitor.id and scope["app"].auth is None and scope["method"] == "GET" and scope["path"] == "/"

    @contextmanager
    def _counted(self, scope: Scope, visitor: Visitor) -> Iterator[None]:
        """Count the requests that a visitor has open. Raise Refused for one too many."""
        if self.open[visitor.id] >= MAX_REQUESTS and visitor.id:
            raise Refused(429, "Too many requests at once. Close a page, or wait.", 5)
        self.open[visitor.id] += 1
        try:
            yield
        finally:
            self.open[visitor.id] -= 1
            if not self.open[visitor.id]:
                del self.open[visitor.id]

    def _opens_for_owner(self, scope: Scope) -> bool:
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("owner", "")
        return bool(given) and scope["path"] == "/" and self.throttle is not None and self.visitors.is_link(given)

    async def _let_owner_in(self, scope: Scope, receive: Receive, answering: Answering, visitor: Visitor) -> None:
        """Log in whoever has the link that was printed at the start, as the owner."""
        shown = self.visitors.read(HTTPConnection(scope).cookies)
        answering.cookie = self.visitors.cookie(self.visitors.welcome(shown, has_logged_in=True, is_owner=True))
        token = secrets.token_urlsafe(16)
        scope["app"].tokens[token] = OWNER
        answer = RedirectResponse("./", 302)  # below the sub-path of a reverse proxy, too
        answer.set_cookie(f"access-token-unsecure-{scope['app'].cookie_id}", token, httponly=True, samesite="lax")
        await answer(scope, receive, answering)

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
        if path.startswith(FILE) and _is_link(path.removeprefix(FILE)):
            raise Refused(403, "This file is not served.")
        if path.rstrip("/") == LOGOUT and _came_from_elsewhere(headers, self.hosts):
            raise Refused(403, "Only a page of this server can log you out.")
        if self.spare_bytes and path.rstrip("/") == UPLOAD:
            self.files_dir.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.files_dir).free < self.spare_bytes:
                raise Refused(507, "The disk is almost full, so nothing can be uploaded.")
        if not PUBLIC.fullmatch(path) and not _is_logged_in(scope):
            raise Refused(401, "Please log in first.")

    def _is_foreign(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is not None:
            return not self.hosts.is_own(origin, headers["host"])
        # Pictures and scripts that another site embeds carry no Origin. A link that somebody follows is fine.
        return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"

    def _is_ours(self, target: str) -> bool:
        try:
            return Path(target).resolve().is_relative_to(self.files_dir.resolve())
        except (OSError, ValueError):  # a NUL, a name too long
            return False


def _is_link(target: str) -> bool:
    return bool(LINK.match(target) or LINK.match(unquote(target)))  # the second for a link that was encoded twice


def _came_from_elsewhere(headers: Headers, hosts: Hosts) -> bool:
    """Whether a click or a script of another site began this, a followed link too. Programs say neither."""
    site, referer = headers.get("sec-fetch-site"), headers.get("referer")
    if site is not None:
        return site not in ("same-origin", "none")  # none: typed, or a bookmark
    return referer is not None and not hosts.is_own("/".join(referer.split("/")[:3]), headers["host"])


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
