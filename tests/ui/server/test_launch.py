"""How the server is started; what it lets through is tested in test_guard."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipelines.errors import StudioError
from pipelines.settings import load
from tests.ui import web
from tests.ui.small_page import call, small_page
from ui.server.launch import free_port, launch


def test_a_free_port_is_taken_as_it_is_and_a_busy_one_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert free_port("127.0.0.1", port) > port
        assert free_port("0.0.0.0", port) > port
    assert free_port("127.0.0.1", port) == port


def test_an_address_of_another_machine_is_refused_by_name() -> None:
    with pytest.raises(StudioError, match="192.0.2.1"):
        free_port("192.0.2.1", 7860)


def test_a_page_for_everybody_is_reached_by_address_and_asks_for_the_password(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    running = launch(small_page(), load(["--data-dir", str(tmp_path), "--host", "0.0.0.0"], {}), port=0)
    try:
        assert running.url.startswith("http://127.0.0.1:") and running.login and running.login.generated
        elsewhere = running.url.replace("127.0.0.1", "127.0.0.2")  # another address of this machine
        assert web.get(elsewhere).status_code == 200
        assert web.get(f"{elsewhere}config").status_code == 401
    finally:
        running.close()


def test_a_closed_server_gives_its_port_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    settings = load(["--data-dir", str(tmp_path)], {})
    first = launch(small_page(), settings, port=0)
    port = int(first.url.rsplit(":", 1)[1].strip("/"))
    assert "hello" in call(first.url, "echo", ["hello"])
    first.close()
    second = launch(small_page(), settings, port=port)
    try:
        assert second.url == first.url and second.notices == []
    finally:
        second.close()
