"""Start the web server exactly as users get it; the tests start it here too."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware

from pipelines.errors import StudioError
from pipelines.settings import Settings

from ..language.first import First
from ..visitors import Visitors
from . import connections
from .addresses import Addresses, Hiding
from .calls import Calls, Statuses
from .guard import MAX_UPLOAD_BYTES, OWN_UPLOAD_BYTES, Guard
from .hosts import ANY_ADDRESS, Hosts
from .logins import Throttle
from .public_link import PublicLink
from .sharing import Credentials, checker, credentials, open_tunnel
from .sparse import shorten_tracebacks

PORTS_TRIED = 100
QUEUE_SIZE = 32
MAX_FILE_SIZE = "20mb"
SPARE_BYTES = 2**30  # visitors cannot fill the disk further than this
OWN_FILE_SIZE = "1gb"  # on a page that others cannot reach: a zip of pictures to train on


@dataclass
class Running:
    """A started server. url: for this machine. login: who may log in, or None when nobody is asked. owner_url: lets its
    owner in without a password, and tells them from guests; "" where there are none."""

    demo: gr.Blocks = field(repr=False)
    url: str
    hosts: Hosts
    login: Credentials | None = None
    public: PublicLink = field(default_factory=PublicLink)
    notices: list[str] = field(default_factory=list)
    owner_url: str = field(default="", repr=False)

    def close(self) -> None:
        """End the public link and the server; open pages are hardly waited for."""
        self.public.end()
        self.demo.server.config.timeout_graceful_shutdown = 1  # seconds
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # each open page would be an error in the log
        self.demo.close(verbose=False)


def launch(demo: gr.Blocks, settings: Settings, *, port: int | None = None,
           throttle: Throttle | None = None) -> Running:
    """Serve a Blocks and return at once. A public link that cannot be had becomes a notice, not an error.

    port: instead of the setting's; 0 takes any that is free. throttle: makes wrong passwords wait. Raise StudioError
    for an address that cannot be used.
    """
    login = credentials(settings)
    throttle, hosts = throttle or Throttle(), Hosts(settings.host, settings.public_url)
    visitors = Visitors.of(settings.data_dir)
    wanted = settings.port if port is None else port
    port = free_port(settings.host, wanted)
    guard = Middleware(Guard, files_dir=_cache_dir(), hosts=hosts, throttle=throttle if login else None,
                       upload_bytes=MAX_UPLOAD_BYTES if settings.is_public else OWN_UPLOAD_BYTES,
                       spare_bytes=SPARE_BYTES if settings.is_public else 0,
                       visitors=visitors, is_public=settings.is_public, calls=Calls(demo))
    hiding = Middleware(Hiding, addresses=Addresses(_cache_dir(), visitors))
    _serve(demo, settings, port, [guard, Middleware(First), hiding], checker(login) if login else None)
    connections.limit(demo.server)
    shown = "127.0.0.1" if settings.host in ANY_ADDRESS else settings.host
    running = Running(demo, f"http://{_bracketed(shown)}:{port}/", hosts, login,
                      getattr(demo, "public_link", None) or PublicLink())
    if settings.public_url:
        running.notices.append(f"Behind the reverse proxy, Atelier is at {settings.public_url}/")
    if login and settings.is_public:
        address = f"{settings.public_url}/" if settings.public_url else running.url  # where the page is used
        running.owner_url = f"{address}?owner={visitors.link}"
    if wanted not in (0, port):
        running.notices.append(f"Port {wanted} is in use; port {port} is taken instead.")
    if settings.share:
        try:
            running.public.opened(open_tunnel(demo, hosts, settings.data_dir), settings.share_hours)
        except StudioError as error:
            running.notices.append(str(error))
    return running


def free_port(host: str, port: int) -> int:
    """Return the first port from `port` on that can be listened on; 0 takes any.

    Raise StudioError when the address is not one of this machine, or no port is free.
    """
    last: OSError | None = None
    for candidate in range(port, min(port + PORTS_TRIED, 65536)):
        try:
            # Gradio looks at 127.0.0.1 as well, whatever the host is.
            return _listen("127.0.0.1", _listen(host, candidate))
        except OSError as error:
            last = error
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                break
    reason = last.strerror if last else "the port is out of range"
    raise StudioError(f"host, port: cannot listen on {host or 'this machine'}, port {port} and above: {reason}.")


def _listen(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if os.name == "posix":  # a port of a server that has just ended; on Windows it would mean sharing the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return probe.getsockname()[1]


def _cache_dir() -> Path:
    return Path(get_upload_folder()).resolve()


def _serve(demo: gr.Blocks, settings: Settings, port: int, guards: list[Middleware],
           check: Callable[[str, str], bool] | None) -> None:
    from ..language import page as page_language
    from ..static import theme
    from . import sessions
    from .frontend_patch import Quick
    from .reverse_proxy import BehindProxy

    data_dir, cache_dir = settings.data_dir.resolve(), _cache_dir()
    secret = [data_dir / name for name in ("share", "config.toml", "cookies.key")]
    private = [*secret, *(path.resolve() for path in settings.model_dir)]
    proxied = [Middleware(BehindProxy, public_url=settings.public_url)] if settings.public_url else []
    # The tunnel's end is on this machine, so uvicorn would believe the address that any visitor sends.
    os.environ["FORWARDED_ALLOW_IPS"] = ""
    # api_open: else a call could walk past the queue. The limit is high because a handler only relays what the
    # one worker does: who waits, waits in the studio's own queue, in order and with a position.
    demo.queue(max_size=QUEUE_SIZE, api_open=False, default_concurrency_limit=QUEUE_SIZE)
    # Everything that an environment variable of Gradio's could change is said here. The two lists of paths are
    # never empty, because an empty one is taken from the environment.
    demo.launch(
        server_name=_bracketed(settings.host), server_port=port, root_path=settings.public_url or "", share=False,
        inbrowser=False, inline=False, debug=False, quiet=True, prevent_thread_lock=True, max_threads=2 * QUEUE_SIZE,
        auth=check, auth_message=None,
        app_kwargs={"middleware": [*proxied, *guards, Middleware(Statuses), Middleware(Quick)],
                    "openapi_url": None},
        allowed_paths=[str(data_dir)],  # what a handler may hand out; visitors read from the cache only (see Guard)
        blocked_paths=[str(path) for path in private if not cache_dir.is_relative_to(path)],
        max_file_size=MAX_FILE_SIZE if settings.is_public else OWN_FILE_SIZE, show_error=False,
        enable_monitoring=False, run_history=False, mcp_server=False,
        ssr_mode=False, pwa=False, strict_cors=True, footer_links=[],
        theme=theme.THEME, css=theme.CSS, head=theme.HEAD + page_language.words(),
        i18n=page_language.mark(demo),
        # Only leaves out a look at the page with a limit of 3 s, which a busy machine misses; that the server answers
        # is known by then.
        _frontend=False,
    )
    sessions.install(demo)
    shorten_tracebacks()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
