"""Who asks: a cookie that this server signed tells visitors apart. What a page says of itself counts for nothing.

The door (ui/server/guard.py) reads the cookie and hands on who it is in two headers that nobody else can set; `asking`
reads them for whatever runs in an event. The key lies in the data folder, so that a cookie outlives a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

from gradio.context import LocalContext

from pipelines.requests.caller import Caller

from . import language

log = logging.getLogger(__name__)

COOKIE = "atelier-visitor"
KEPT_S = 365 * 24 * 3600
KINDS = ("visitor", "device", "owner")  # each may do what those before it may
KEY_BYTES = 32
VISITOR_HEADER, RIGHTS_HEADER = "x-atelier-visitor", "x-atelier-rights"
LOGIN, OWNER = "login", "owner"


@dataclass(frozen=True)
class Visitor:
    """One browser, or one program. id: "" when it shows nothing to be known by.

    has_logged_in: from this device, at some time. is_owner: the person whose machine it is.
    """

    id: str = ""
    has_logged_in: bool = False
    is_owner: bool = False

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What the door tells the rest of the server about them."""
        rights = " ".join([LOGIN] * self.has_logged_in + [OWNER] * self.is_owner)
        return [(VISITOR_HEADER.encode(), self.id.encode()), (RIGHTS_HEADER.encode(), rights.encode())]


@dataclass(frozen=True)
class Visitors:
    """Reads and signs the cookies. link: the secret by which the owner's own link is known, new at each start."""

    key: bytes = field(default_factory=lambda: secrets.token_bytes(KEY_BYTES), repr=False)
    link: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)

    @classmethod
    def of(cls, data_dir: Path) -> Visitors:
        """Take the data folder's key, made at the first start; where none can be written, one for this run."""
        path = data_dir / "cookies.key"
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as made:
                made.write(secrets.token_bytes(KEY_BYTES))
        except FileExistsError:
            pass
        except OSError as error:
            log.warning("No key for cookies can be kept (%s): who is here now is not known after a restart.",
                        error.strerror)
            return cls()
        key = path.read_bytes()
        return cls(key) if len(key) == KEY_BYTES else cls()

    def read(self, cookies: Mapping[str, str]) -> Visitor:
        """Return who shows these cookies; nobody in particular for a cookie that is not ours."""
        id, _, sign = cookies.get(COOKIE, "").partition(".")
        for kind in KINDS:
            if id and hmac.compare_digest(sign.encode(), self.sign(kind, id).encode()):
                return Visitor(id, has_logged_in=kind != "visitor", is_owner=kind == "owner")
        return Visitor()

    def cookie(self, visitor: Visitor) -> str:
        """Return the Set-Cookie header that lets them be known again."""
        kind = "owner" if visitor.is_owner else "device" if visitor.has_logged_in else "visitor"
        made = SimpleCookie({COOKIE: f"{visitor.id}.{self.sign(kind, visitor.id)}"})
        made[COOKIE].update({"path": "/", "max-age": str(KEPT_S), "httponly": "yes", "samesite": "lax"})
        return made[COOKIE].OutputString()

    def welcome(self, visitor: Visitor, **more: bool) -> Visitor:
        """Return the visitor with an id, their own if they have one. more: has_logged_in, is_owner."""
        return replace(visitor, id=visitor.id or secrets.token_hex(16), **more)

    def is_link(self, given: str) -> bool:
        """Tell whether this is the secret of the owner's link."""
        return hmac.compare_digest(given.encode(), self.link.encode())

    def sign(self, *parts: str) -> str:
        """Sign words that only this server can have put together."""
        return hmac.new(self.key, "\0".join(parts).encode(), hashlib.sha256).hexdigest()[:32]


def asking() -> Visitor:
    """Return whose event is running; outside of one, the person at the machine."""
    request: Any = LocalContext.request.get(None)
    if request is None:
        return Visitor(is_owner=True)
    rights = request.headers.get(RIGHTS_HEADER, "").split()
    return Visitor(request.headers.get(VISITOR_HEADER, ""), LOGIN in rights, OWNER in rights)


def owner_of(page: str) -> str:
    """Return whom a page's pictures and jobs belong to: who logged in; where nobody has to, the browser it names."""
    visitor = asking()
    return visitor.id if visitor.has_logged_in else page.partition(".")[0]


def page_of(page: str) -> str:
    """Return the id of a page among all: its own one, together with who logged in, so that nobody acts for another."""
    visitor = asking()
    return f"{visitor.id}.{page.partition('.')[2]}" if page and visitor.has_logged_in else page


def caller(page: str = "") -> Caller:
    """Return who asks. page: the id that a page gave itself; "" for a caller that waits in place."""
    return Caller(page_of(page) or None, owner_of(page), not asking().is_owner, language.current())
