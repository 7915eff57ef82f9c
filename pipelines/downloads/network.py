"""Which addresses may be reached, and how. Every redirect is judged as if a person had typed it.

A host's address is looked up once, judged, and then connected to: a name that changes its address in between (DNS
rebinding) gains nothing. Plain sockets and http.client, because a library's own connections look the name up again.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from pydantic import SecretStr

from ..errors import ModelError

log = logging.getLogger(__name__)

# The two sites, and the stores that they send on to.
HOSTS = ("huggingface.co", "hf.co", "civitai.com", "r2.cloudflarestorage.com", "backblazeb2.com", "github.com",
         "githubusercontent.com")
MAX_REDIRECTS = 8
MAX_ADDRESS = 4_000  # characters
TIMEOUT_S = 30
MAX_ANSWER_BYTES = 10_000_000
REDIRECTS = (301, 302, 303, 307, 308)
REASONS = {401: "it asks for a login: a token of yours may help",
           403: "it does not allow it: a token of yours may help",
           404: "there is nothing of that name", 410: "it is gone", 429: "it asks to wait a while"}


class Refused(ModelError):
    """An address that is not to be reached."""


class Broken(ModelError):
    """The connection failed or ended early; another try may do better."""


@dataclass
class Response:
    """An answer whose body is still to be read. Use it with `with`."""

    status: int
    headers: Mapping[str, str]
    url: str
    _answer: http.client.HTTPResponse
    _connection: http.client.HTTPConnection
    _left: int | None = None

    def read(self, size: int) -> bytes:
        """Read what has come, up to `size` bytes; b"" at the end. Raises Broken."""
        if self._left is not None:
            size = min(size, self._left)
        try:
            # read1 does not wait for all of `size`, so on a slow line a pause is quick; it does not count either.
            chunk = self._answer.read1(size) if size else b""
        except (OSError, http.client.HTTPException):
            raise Broken("Download: the connection ended early.") from None
        if self._left is not None:
            self._left -= len(chunk)
        return chunk

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


@dataclass(frozen=True)
class Network:
    """hosts: those that may be reached, with all their subdomains, over https and at public addresses; an origin such
    as "http://192.168.1.5:8000" is reached as it stands, for a server of one's own. tokens: host (or host:port) ->
    token, which is sent to that host alone. resolve: socket.getaddrinfo or a stand-in for it."""

    hosts: tuple[str, ...] = HOSTS
    tokens: Mapping[str, SecretStr] = field(default_factory=dict)
    resolve: Callable[..., Any] = field(default=socket.getaddrinfo, repr=False)

    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Ask for an address, following redirects.

        Raises Refused for an address that may not be reached, Broken when nobody answers, ModelError for an answer
        that is an error. 416 is an answer.
        """
        for _ in range(MAX_REDIRECTS):
            response = self._ask(url, headers or {})
            if response.status in REDIRECTS and "location" in response.headers:
                response.__exit__()
                url = urljoin(url, response.headers["location"])
                continue
            if response.status in (200, 206, 416):
                return response
            response.__exit__()
            reason = REASONS.get(response.status, f"it answers with error {response.status}")
            said = f"Download: {_host(url)} does not give it: {reason}."
            raise Broken(said) if response.status >= 500 else ModelError(said)
        raise Refused("Download: the address leads in circles.")

    def json(self, url: str) -> object:
        """Read a small JSON answer."""
        with self.open(url) as response:
            text = b""
            while chunk := response.read(1 << 16):
                text += chunk
                if len(text) > MAX_ANSWER_BYTES:
                    raise ModelError(f"Download: the answer of {_host(url)} is larger than {MAX_ANSWER_BYTES:,} bytes.")
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise ModelError(f"Download: the answer of {_host(url)} is not readable.") from None

    def check(self, url: str) -> tuple[str, ...]:
        """Return the network addresses that `url` may be reached at, or raise Refused."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            raise Refused("Download: that is no address.") from None
        if len(url) > MAX_ADDRESS or not host or any(ord(letter) < 33 for letter in url):
            raise Refused("Download: that is no address.")
        if parts.username or parts.password:
            raise Refused("Download: an address must not hold a name or a password.")
        own = f"{parts.scheme}://{parts.netloc}" in self.hosts
        if not own and parts.scheme != "https":
            raise Refused(f"Download: {host[:80]} is asked for without encryption. Only https addresses are followed.")
        if not own and (port not in (None, 443) or not any(
                host == known or host.endswith(f".{known}") for known in self.hosts if "://" not in known)):
            raise Refused(f"Download: {host[:80]} is not among the hosts that may be asked "
                          f"({', '.join(self.hosts[:8])}).")
        try:
            found = self.resolve(host, port or (443 if parts.scheme == "https" else 80), type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            raise Broken(f"Download: {host[:80]} cannot be found. Is this machine online?") from None
        addresses = tuple(dict.fromkeys(entry[4][0] for entry in found))
        if not own and not all(map(_is_public, addresses)):
            raise Refused(f"Download: {host[:80]} is inside a private network.")
        return addresses

    def _ask(self, url: str, headers: Mapping[str, str]) -> Response:
        addresses = self.check(url)
        parts = urlsplit(url)
        token = self.tokens.get(parts.netloc.lower())
        sent = {"User-Agent": "Atelier", "Accept-Encoding": "identity", **headers}
        if token and token.get_secret_value():
            sent["Authorization"] = f"Bearer {token.get_secret_value()}"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        log.debug("asking %s", _host(url))  # the rest of an address may be signed
        connection = (_Encrypted if parts.scheme == "https" else _Plain)(parts.hostname, parts.port, timeout=TIMEOUT_S)
        connection.addresses = addresses
        try:
            connection.request("GET", target.encode("ascii", "replace").decode(), headers=sent)
            answer = connection.getresponse()
        except ssl.SSLCertVerificationError:
            connection.close()
            raise Refused(f"Download: {_host(url)} cannot prove who it is (its certificate is not valid).") from None
        except (OSError, http.client.HTTPException, ValueError):
            connection.close()
            raise Broken(f"Download: {_host(url)} does not answer.") from None
        names = {name.lower(): value for name, value in answer.getheaders()}
        length = names.get("content-length", "") if not answer.chunked else ""
        return Response(answer.status, names, url, answer, connection, int(length) if length.isdigit() else None)


class _Plain(http.client.HTTPConnection):
    """Connects to addresses that were judged, not to the name."""

    addresses: tuple[str, ...] = ()

    def connect(self) -> None:
        failed: OSError | None = None
        for address in self.addresses:
            try:
                self.sock = socket.create_connection((address, self.port), self.timeout)
                return
            except OSError as error:
                failed = error
        raise failed or OSError("no address")


class _Encrypted(_Plain):
    default_port = 443

    def connect(self) -> None:
        super().connect()
        import certifi

        context = ssl.create_default_context()
        context.load_verify_locations(certifi.where())  # some systems' Python knows no authorities
        self.sock = context.wrap_socket(self.sock, server_hostname=self.host)


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    inner = [getattr(address, name, None) for name in ("ipv4_mapped", "sixtofour", "teredo")]
    if any(inner) or (address.version == 6 and address in ipaddress.ip_network("64:ff9b::/96")):  # IPv4 in disguise
        return False
    return address.is_global and not address.is_multicast


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "the server")[:80]
