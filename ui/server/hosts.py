"""The names that the web server answers to."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

from pipelines.settings import LOOPBACK

ANY_ADDRESS = ("0.0.0.0", "::", "")


class Hosts:
    """The names this server answers to; anything else may be a foreign name that points here (DNS rebinding)."""

    def __init__(self, bound_to: str, public_url: str | None = None):
        """bound_to: the address listened on. public_url: of a reverse proxy, as the setting has it."""
        public = urlsplit(public_url or "")
        self._public_origin = f"{public.scheme}://{public.netloc}" if public_url else None
        self._any_address = bound_to in ANY_ADDRESS
        self._shared: set[str] = set()
        self._names = {name.lower() for name in (*LOOPBACK, bound_to, public.hostname) if name}
        if bound_to not in LOOPBACK:
            name = socket.gethostname().lower()
            self._names |= {name, name.partition(".")[0], f"{name.partition('.')[0]}.local"}

    def share(self, name: str) -> None:
        """Answer to the share link's name as well."""
        self._shared.add(name.lower())

    def unshare(self, name: str) -> None:
        """Stop answering to the share link's name."""
        self._shared.discard(name.lower())

    def is_shared(self, host: str) -> bool:
        """Tell whether a Host header names the share link."""
        return host.lower().partition(":")[0] in self._shared

    def __contains__(self, host: str) -> bool:
        """Tell whether a Host header (name and optional port) is ours."""
        match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:\[\]/@\s]+)(:\d{1,5})?", host.lower())
        if not match:
            return False
        name = match[1].strip("[]")
        return name in self._names or name in self._shared or (self._any_address and _is_address(name))

    def is_own(self, origin: str, host: str) -> bool:
        """Tell whether an Origin header names the server that the Host header names, the proxy, or the share link."""
        if origin.lower() == self._public_origin:  # a proxy may rewrite Host
            return True
        name = origin.lower().partition("://")[2]
        return name != "" and (name == host.lower() or name in self._shared)  # a tunnel may rewrite Host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
