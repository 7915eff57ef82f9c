"""A page behind a reverse proxy: the address by which others know it, whatever the proxy tells of itself."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass
class BehindProxy:
    """ASGI middleware that takes the public address's sub-path off where a proxy leaves it on, and its scheme over.

    public_url: as the setting has it, without a slash at its end.
    """

    app: ASGIApp
    public_url: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on as if it had been sent to the root of the public address."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        address = urlsplit(self.public_url)
        prefix, path = address.path, scope["path"]
        if prefix and path == prefix:  # the page names its parts relative to itself, so it ends with a slash
            return await RedirectResponse(f"{self.public_url}/")(scope, receive, send)
        if prefix and path.startswith(f"{prefix}/"):
            raw = scope.get("raw_path") or path.encode()
            scope = {**scope, "path": path.removeprefix(prefix), "raw_path": raw.removeprefix(prefix.encode())}
        await self.app({**scope, "scheme": address.scheme}, receive, send)
