"""What every answer carries: headers that keep other sites out, and cookies that other sites do not get."""

from __future__ import annotations

import re
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

SEEN = ("image/png", "image/jpeg", "image/webp", "image/gif")  # of a visitor's files, what a browser may show
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "same-origin",
    "x-robots-tag": "noindex, nofollow",
    # Inline script and style are how a Gradio page is built; what matters is that nothing is fetched from elsewhere.
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; "
                               "base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
}


class Answering:
    """A send function that adds the security headers and a cookie, and remembers whether the answer has begun."""

    def __init__(self, send: Send, secure: bool, is_file: bool):
        self._send, self._secure, self._is_file, self.started = send, secure, is_file, False
        self.cookie = ""  # one of ours to set
        self.tell: Callable[[int], None] | None = None  # is told the status

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            if self.tell:
                self.tell(message["status"])
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            if self._is_file and message["status"] < 300 and headers.get("content-type") not in SEEN:
                # Somebody uploaded it: opened as a page, it would act in the name of whoever follows its link.
                headers.update({"content-type": "application/octet-stream", "content-disposition": "attachment"})
            cookies = headers.getlist("set-cookie")
            del headers["set-cookie"]
            for cookie in filter(None, (*cookies, self.cookie)):
                headers.append("set-cookie", self._stricter(cookie))
        await self._send(message)

    def _stricter(self, cookie: str) -> str:
        # Gradio's login cookie is SameSite=None: every site that a visitor opens could use it.
        cookie = re.sub(r"samesite=none", "SameSite=lax", cookie, flags=re.IGNORECASE)
        is_secure = re.search(r";\s*secure\b", cookie, re.IGNORECASE)
        return cookie if is_secure or not self._secure else f"{cookie}; Secure"
