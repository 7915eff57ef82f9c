"""Passwords, and the public link.

Whoever can reach the page can use the machine, so a server that others can reach always asks for a password.
The link is Gradio's own tunnel (the program frpc); its hash is compared before every start, because Gradio
compares it only right after the download, and nothing here can keep the local page waiting.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipelines.errors import StudioError
from pipelines.settings import Settings

from .hosts import Hosts

if TYPE_CHECKING:  # else imported when a link is asked for
    import gradio as gr
    from gradio.tunneling import Tunnel

DEFAULT_USER = "atelier"
GENERATED_BYTES = 12  # 96 bits, 16 characters
TUNNEL_TIMEOUT_S = 15
CLOSE_TIMEOUT_S = 1.5


@dataclass(frozen=True)
class Credentials:
    """Who may log in. Only a hash of the password is kept; `generated` is there to be printed once."""

    user: str
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    generated: str | None = field(default=None, repr=False)

    def match(self, user: str, password: str) -> bool:
        """Compare in constant time, name and password both, whichever is wrong."""
        same_user = hmac.compare_digest(user.encode(), self.user.encode())
        same_password = hmac.compare_digest(_hashed(password, self.salt), self.digest)
        return same_user & same_password


@dataclass
class Link:
    """An open share link. url: what to give to others. tunnel: Gradio's, whose `proc` is frpc."""

    url: str
    tunnel: Tunnel
    hosts: Hosts

    @property
    def host(self) -> str:
        """The link's host name."""
        return urlsplit(self.url).hostname or ""


def credentials(settings: Settings) -> Credentials | None:
    """Return who may log in; None when only this machine can reach the page and no password was set."""
    if settings.login is not None:
        return _credentials(*settings.login)
    if settings.is_public:
        password = secrets.token_urlsafe(GENERATED_BYTES)
        return _credentials(DEFAULT_USER, password, generated=password)
    return None


def checker(login: Credentials) -> Callable[[str, str], bool]:
    """Return the function that Gradio asks at login. Guesses wait for their turn before they come here."""
    return login.match


def open_tunnel(demo: gr.Blocks, hosts: Hosts, data_dir: Path, *, server: str | None = None,
                sha256: str | None = None, timeout_s: float = TUNNEL_TIMEOUT_S) -> Link:
    """Open the public link of a launched Blocks within timeout_s, or raise StudioError saying why there is none.

    server: "host:port" of a share server of one's own; Gradio's when None. sha256: of frpc, when it is not the
    one that Gradio names. The certificate is written into data_dir, never into the working directory.
    """
    attempt = _Attempt(demo, data_dir, server, sha256)
    # Downloading and reading frpc's output both can block for ever, so a thread of its own does them.
    threading.Thread(target=attempt.run, name="share-link", daemon=True).start()
    if not attempt.done.wait(timeout_s):
        attempt.give_up()
        raise StudioError("No public link: the share service did not answer in time. The page works on this machine.")
    if attempt.error is not None:
        raise attempt.error
    assert attempt.tunnel is not None  # else there is an error
    link = Link(attempt.url, attempt.tunnel, hosts)
    hosts.share(link.host)
    demo.share = False  # in share mode the page's scripts come from a foreign server instead of through the tunnel
    return link


def close_tunnel(link: Link) -> None:
    """End the public link, within 2 s, even when frpc does not listen."""
    link.hosts.unshare(link.host)
    _end(link.tunnel)


class _Attempt:
    """One try to open the link, in a thread that may be left behind."""

    def __init__(self, demo: gr.Blocks, data_dir: Path, server: str | None, sha256: str | None):
        self._demo, self._data_dir, self._server, self._sha256 = demo, data_dir, server, sha256
        self._lock = threading.Lock()
        self._given_up = False
        self.done = threading.Event()
        self.tunnel: Tunnel | None = None
        self.url = ""
        self.error: StudioError | None = None

    def give_up(self) -> None:
        """End frpc if it runs, and see to it that it does not stay if it is being started."""
        with self._lock:
            self._given_up = True
            if self.tunnel is not None:
                _end(self.tunnel)

    def run(self) -> None:
        """Fetch what is missing, compare the hash, start frpc and read the link's address."""
        try:
            self._run()
        except StudioError as error:
            self.error = error
        except Exception as error:  # the network, the disk, frpc: the person at the page can act on none of them
            logging.getLogger(__name__).info("No share link", exc_info=error)
            self.error = StudioError("No public link: the share service cannot be reached. "
                                     "The page works on this machine.")
        finally:
            self.done.set()

    def _run(self) -> None:
        from gradio import tunneling

        tunneling.Tunnel.download_binary()  # only when it is not there yet
        self._refuse_altered(Path(tunneling.BINARY_PATH), tunneling.CHECKSUMS.get(tunneling.BINARY_URL, ""))
        self.tunnel = self._make_tunnel(*self._share_server())
        with self._lock:
            if self._given_up:
                return
        address = self.tunnel.start_tunnel()
        self.url = address if self._server else f"https://{urlsplit(address).netloc}"

    def _refuse_altered(self, program: Path, published: str) -> None:
        found = hashlib.sha256(program.read_bytes()).hexdigest()
        if not hmac.compare_digest(found, self._sha256 or published):
            raise StudioError("No public link: the share program frpc is not the one that Gradio published, so it "
                              "was not started. Delete it from the Hugging Face cache to download it again.")

    def _share_server(self) -> tuple[str, int, str | None]:
        if self._server:
            host, _, port = self._server.rpartition(":")
            return host, int(port), None
        import httpx
        from gradio import networking

        answer = httpx.get(networking.GRADIO_API_SERVER, timeout=TUNNEL_TIMEOUT_S).json()[0]
        certificate = self._data_dir / "share" / "certificate.pem"
        certificate.parent.mkdir(parents=True, exist_ok=True)
        certificate.write_text(answer["root_ca"])
        return answer["host"], int(answer["port"]), str(certificate)

    def _make_tunnel(self, host: str, port: int, certificate: str | None) -> Tunnel:
        from gradio import tunneling

        attempt = self

        class BoundedTunnel(tunneling.Tunnel):
            """Gradio's tunnel, except that it notices when frpc ends: Gradio then spins at full load for 30 s."""

            def _read_url_from_tunnel_stream(self) -> str:
                with attempt._lock:
                    if attempt._given_up:
                        _end(self)
                        return ""
                assert self.proc is not None and self.proc.stdout is not None  # it was started just now
                for line in iter(self.proc.stdout.readline, b""):
                    if found := re.search(rb"start proxy success: (\S+)", line):
                        return found[1].decode()
                    if b"login to server failed" in line:
                        break
                _end(self)
                raise StudioError("No public link: the share program ended or was turned away. "
                                  "The page works on this machine.")

        demo = self._demo
        return BoundedTunnel(host, port, demo.server_name, demo.server_port, demo.share_token, certificate)


def _end(tunnel: Tunnel) -> None:
    process, tunnel.proc = tunnel.proc, None  # Gradio's own kill at exit has nothing left to do
    if process is None:
        return
    process.terminate()
    try:
        process.wait(CLOSE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _credentials(user: str, password: str, generated: str | None = None) -> Credentials:
    salt = os.urandom(16)
    return Credentials(user, salt, _hashed(password, salt), generated)


def _hashed(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**13, r=8, p=1)
