"""Passwords and the public link. The share program is a small script here; no test leaves this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.errors import StudioError
from pipelines.settings import Settings, load
from tests.ui import web
from tests.ui.small_page import small_page
from ui.server.guard import PUBLIC
from ui.server.launch import Running, launch
from ui.server.sharing import close_tunnel, credentials, open_tunnel

PASSWORD = "violet-otter-71"


def settings(*flags: str) -> Settings:
    return load(["--data-dir", "/nowhere", *flags], {})


# Passwords


def test_nobody_is_asked_for_a_password_on_a_page_of_this_machine() -> None:
    assert credentials(settings()) is None


@pytest.mark.parametrize("flags", [["--share"], ["--host", "0.0.0.0"], ["--host", "::"], ["--host", "192.168.1.5"]])
def test_a_page_that_others_can_reach_gets_a_strong_password(flags: list[str]) -> None:
    first, second = credentials(settings(*flags)), credentials(settings(*flags))
    assert first and second and first.generated and first.generated != second.generated
    assert len(first.generated) >= 12
    assert first.match(first.user, first.generated) and not first.match(first.user, second.generated or "")


def test_a_password_is_neither_shown_nor_kept_in_the_clear() -> None:
    login = credentials(settings("--auth", f"ann:{PASSWORD}"))
    assert login and login.match("ann", PASSWORD) and login.generated is None
    assert PASSWORD not in repr(login) and PASSWORD.encode() not in login.digest
    generated = credentials(settings("--share"))
    assert generated and generated.generated not in repr(generated)


@pytest.mark.parametrize("auth", ["ann:", ":x", "ann", "admin:admin", "ann:password", "ann:1234", "ann:ann", "ann:ANN",
                                  "ann:Password123", "ann:changeme", "ann:aaaaaaaaaaaa"])
def test_empty_and_well_known_passwords_are_refused(auth: str) -> None:
    with pytest.raises(StudioError, match="auth"):
        credentials(settings("--auth", auth))


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A server that asks for a password."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    flags = ["--data-dir", str(tmp_path), "--auth", f"ann:{PASSWORD}"]
    running = launch(small_page(), load(flags, {}), port=0)
    yield running
    running.close()


def log_in(url: str, password: str, **headers: str) -> httpx.Response:
    return web.post(f"{url}login", data={"username": "ann", "password": password}, headers=headers)


def test_without_a_login_nothing_but_the_login_page_answers(locked: Running) -> None:
    assert web.get(locked.url).status_code == 200 and "auth_required" in web.get(locked.url).text
    asked_for_login = 0
    for path, methods in all_routes(locked.demo.app):
        if PUBLIC.fullmatch(path):
            continue
        for method in methods:
            answer = web.request(method, f"{locked.url.rstrip('/')}{path}")
            assert answer.status_code in (401, 403, 404), (method, path, answer.status_code)
            asked_for_login += answer.status_code == 401
    assert asked_for_login > 10


def all_routes(app: Any) -> Iterator[tuple[str, set[str]]]:
    """Every path that the server knows, Gradio's and ours, with a name of its own for each parameter."""
    for route in app.routes:
        for each in route.original_router.routes if hasattr(route, "original_router") else [route]:
            path = re.sub(r"\{(\w+)(:\w+)?\}", r"\1", each.path)
            yield path, each.methods or {"GET"}


def test_the_right_password_opens_the_page(locked: Running) -> None:
    with web.Client() as client:
        answer = client.post(f"{locked.url}login", data={"username": "ann", "password": PASSWORD})
        assert answer.status_code == 200
        assert client.get(f"{locked.url}config").status_code == 200
        client.get(f"{locked.url}logout")
        assert client.get(f"{locked.url}config").status_code == 401


def test_whoever_logs_out_leaves_the_others_logged_in(locked: Running) -> None:
    with web.Client(base_url=locked.url) as leaving, web.Client(base_url=locked.url) as staying:
        for client in (leaving, staying):
            client.post("login", data={"username": "ann", "password": PASSWORD})
        kept = dict(leaving.cookies)
        leaving.get("logout")
        assert staying.get("config").status_code == 200
        assert web.get(f"{locked.url}config", cookies=kept).status_code == 401  # the token itself is worth nothing


def test_a_made_up_cookie_does_not_open_the_page(locked: Running) -> None:
    name = f"access-token-unsecure-{locked.demo.app.cookie_id}"
    for value in ("", "x", "None", "null", '"'):
        assert web.get(f"{locked.url}config", headers={"Cookie": f"{name}={value}"}).status_code == 401


def test_other_sites_do_not_get_the_login_cookie(locked: Running) -> None:
    plain = log_in(locked.url, PASSWORD).headers.get_list("set-cookie")
    assert len(plain) == 3 and not any("none" in cookie.lower().split("samesite=")[-1] for cookie in plain)
    through_tls = log_in(locked.url, PASSWORD, **{"X-Forwarded-Proto": "https"}).headers.get_list("set-cookie")
    assert all("secure" in cookie.lower().split("; ") for cookie in through_tls)
    assert all("httponly" in cookie.lower() for cookie in plain + through_tls)


def test_another_site_cannot_log_out(locked: Running) -> None:
    with web.Client(base_url=locked.url) as client:
        client.post("login", data={"username": "ann", "password": PASSWORD})
        for foreign in ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, {"Sec-Fetch-Site": "same-site"},
                        {"Referer": "https://other.example/x"}, {"Origin": "https://other.example"}):
            assert client.get("logout", headers=foreign).status_code == 403, foreign
        assert client.get("config").status_code == 200
        client.get("logout", headers={"Sec-Fetch-Site": "same-origin", "Referer": locked.url})
        assert client.get("config").status_code == 401


# The public link


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    running = launch(small_page(), load(["--data-dir", str(tmp_path / "data")], {}), port=0)
    yield running
    running.close()


@pytest.fixture
def frpc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Put a script where Gradio looks for the share program; return its hash. It leaves its process id behind."""
    if os.name != "posix":
        pytest.skip("the stand-in for the share program is a shell script")
    from gradio import tunneling

    program = tmp_path / "frpc"
    monkeypatch.setattr(tunneling, "BINARY_PATH", str(program))

    def place(script: str) -> str:
        note = f"echo $$ > '{tmp_path}/pid'\necho \"$@\" > '{tmp_path}/arguments'"
        program.write_text(f"#!/bin/sh\n{note}\n{script}\n")
        program.chmod(0o755)
        return hashlib.sha256(program.read_bytes()).hexdigest()

    return place


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def waiting_threads() -> list[threading.Thread]:
    """Those that fetch the share program, or wait for what it says."""
    return [thread for thread in threading.enumerate() if thread.name == "share-link"]


PATIENCE_S = 60  # a busy machine takes its time to start a script; no program below ends by itself in it
OPENS = "echo 'start proxy success: http://abc.share.example'; exec sleep 600"
STUBBORN = "trap '' TERM; echo 'start proxy success: http://abc.share.example'; while :; do sleep 0.1; done"


@pytest.mark.parametrize("script", [OPENS, STUBBORN])
def test_the_link_opens_and_ends_within_two_seconds(local: Running, frpc: Callable[[str], str], tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    link = open_tunnel(local.demo, local.hosts, tmp_path, server="127.0.0.1:7", sha256=frpc(script),
                       timeout_s=PATIENCE_S)
    pid = int((tmp_path / "pid").read_text())
    process = link.tunnel.proc
    assert link.url == "http://abc.share.example" and is_alive(pid)
    through = {"Host": "abc.share.example", "Origin": "https://abc.share.example", "X-Forwarded-Proto": "https"}
    page = web.get(local.url, headers=through)
    assert page.status_code == 200 and "amazonaws" not in page.text  # the scripts come through the tunnel
    assert "https://abc.share.example" in web.get(f"{local.url}config", headers=through).text
    assert web.get(local.url, headers={**through, "Origin": "https://other.example"}).status_code == 403
    wait, seconds = process.wait, []
    monkeypatch.setattr(process, "wait", lambda timeout=None: seconds.append(timeout) or wait(timeout))
    close_tunnel(link)
    assert process.returncode is not None and not is_alive(pid)
    assert seconds[0] < 2  # the longest wait there is: what has not ended by then is killed
    assert script == OPENS or process.returncode == -signal.SIGKILL
    assert web.get(local.url, headers=through).status_code == 400


def test_an_altered_share_program_is_refused_and_not_started(local: Running, frpc: Callable[[str], str],
                                                             tmp_path: Path) -> None:
    frpc(OPENS)  # Gradio's published hash is another one
    with pytest.raises(StudioError, match="not the one that Gradio published"):
        open_tunnel(local.demo, local.hosts, tmp_path, server="127.0.0.1:7")
    assert not (tmp_path / "pid").exists()
    assert web.get(local.url).status_code == 200


@pytest.mark.parametrize("script", ["exit 1", "echo 'login to server failed: EOF'; exec sleep 600"])
def test_a_share_program_that_fails_is_noticed_before_the_time_is_over(local: Running, frpc: Callable[[str], str],
                                                                       tmp_path: Path, script: str) -> None:
    with pytest.raises(StudioError, match="ended or was turned away"):
        open_tunnel(local.demo, local.hosts, tmp_path, server="127.0.0.1:7", sha256=frpc(script),
                    timeout_s=PATIENCE_S)
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_a_share_program_that_says_nothing_is_ended(local: Running, frpc: Callable[[str], str],
                                                    tmp_path: Path) -> None:
    with pytest.raises(StudioError, match="did not answer in time"):
        open_tunnel(local.demo, local.hosts, tmp_path, server="127.0.0.1:7", sha256=frpc("exec sleep 600"), timeout_s=2)
    for thread in waiting_threads():
        thread.join(PATIENCE_S)
    assert not waiting_threads()  # it reads what the program says until that ends
    note = tmp_path / "pid"
    assert not note.exists() or not is_alive(int(note.read_text()))  # none: ended before it said anything at all
    assert web.get(local.url).status_code == 200


def test_a_silent_network_does_not_keep_the_page_waiting(local: Running, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    from gradio import tunneling

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(tunneling, "BINARY_PATH", str(tmp_path / "hub" / "frpc"))
        monkeypatch.setattr(tunneling, "BINARY_FOLDER", str(tmp_path / "hub"))
        monkeypatch.setattr(tunneling, "BINARY_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/frpc")
        with pytest.raises(StudioError, match="did not answer in time"):
            open_tunnel(local.demo, local.hosts, tmp_path, timeout_s=1)
        assert waiting_threads()  # what waits for the network still does
    with pytest.raises(StudioError, match="cannot be reached"):  # nobody listens there any more
        open_tunnel(local.demo, local.hosts, tmp_path, timeout_s=PATIENCE_S)


def test_the_certificate_stays_out_of_the_working_directory(local: Running, frpc: Callable[[str], str],
                                                            tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ShareServer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps([{"host": "127.0.0.1", "port": 7, "root_ca": "a certificate"}]).encode())

        def log_message(self, *_: object) -> None:
            pass

    from gradio import networking

    server = HTTPServer(("127.0.0.1", 0), ShareServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(networking, "GRADIO_API_SERVER", f"http://127.0.0.1:{server.server_port}/")
    try:
        link = open_tunnel(local.demo, local.hosts, tmp_path / "data", sha256=frpc(OPENS), timeout_s=PATIENCE_S)
    finally:
        server.shutdown()
        server.server_close()
    certificate = tmp_path / "data" / "share" / "certificate.pem"
    assert link.url == "https://abc.share.example"
    assert certificate.read_text() == "a certificate" and str(certificate) in (tmp_path / "arguments").read_text()
    assert not (tmp_path / ".gradio").exists()
    close_tunnel(link)
