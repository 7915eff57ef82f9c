"""The program as a person starts it, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from gradio_client import Client

from tests.ui import web

ROOT = Path(__file__).parents[1]
START_TIMEOUT_S = 300  # a busy machine takes a minute

# Notes every name that is looked up and every address outside this machine that is connected to.
# Python runs it in every process that is started, the engine's too, when it lies on the path under this name.
SITE = "sitecustomize.py"
WATCHED = """
import sys
def note(event, args):
    if event == "socket.getaddrinfo" or event == "socket.connect" and isinstance(args[1], tuple):
        host = args[0] if event == "socket.getaddrinfo" else args[1][0]
        if host not in (None, "", b"", "127.0.0.1", b"127.0.0.1", "localhost", "::1", "0.0.0.0"):
            print("OUTSIDE", host, flush=True)
sys.addaudithook(note)
print("WATCHED", flush=True)
"""

# Builds and serves the whole page in an interpreter that cannot import the heavy libraries.
WITHOUT_TORCH = """
import os, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "diffusers", "transformers", "peft", "accelerate"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
import app
from pipelines import settings
chosen = settings.load(sys.argv[1:], {})
app.quieten(os.environ, chosen)
from pipelines.studio.studio import Studio
from ui import shell
from ui.server.launch import launch
studio = Studio(chosen)
running = launch(shell.build(studio), chosen, port=0)
import httpx
print(httpx.get(running.url, timeout=60).status_code)
running.close()
studio.close()
"""


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment(**more), text=True,
                          capture_output=True, timeout=START_TIMEOUT_S)


def _reset_interrupt() -> None:
    """Let the new process be interrupted: where tests run in the background of a shell, SIGINT is ignored, and
    children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Started:
    """The running program: its address, and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process, self.lines, self.url = process, [], ""
        self._up = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append(line.rstrip())
            if found := re.match(r"Atelier is at (http://\S+)", line):
                self.url = found[1]
                self._up.set()
        self._up.set()

    def wait_until_up(self) -> None:
        assert self._up.wait(START_TIMEOUT_S) and self.url, self.output

    def end(self, kind: signal.Signals) -> int:
        self.process.send_signal(kind)
        code = self.process.wait(START_TIMEOUT_S)  # a model that is being loaded is waited for
        self._reader.join(5)
        return code

    @property
    def output(self) -> str:
        return "\n".join(self.lines)


@contextmanager
def started(*arguments: str, program: tuple[str, ...] = ("app.py",), **more: str) -> Iterator[Started]:
    process = subprocess.Popen([sys.executable, *program, *arguments], cwd=ROOT, env=environment(**more), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               preexec_fn=_reset_interrupt if os.name == "posix" else None)
    try:
        running = Started(process)
        running.wait_until_up()
        yield running
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def test_help_names_every_flag() -> None:
    answer = run("app.py", "--help")
    assert answer.returncode == 0
    for flag in ("host", "port", "share", "auth", "data-dir", "model", "model-dir", "device", "dtype", "offline",
                 "log-level", "config"):
        assert f"--{flag}" in answer.stdout


@pytest.mark.parametrize(("flags", "variables", "said"), [
    (["--prot", "1"], {}, "--port"),
    (["--port", "many"], {}, "port"),
    ([], {"ATELIER_PROT": "1"}, "ATELIER_PROT"),
    (["--auth", "admin:admin"], {}, "auth"),
    (["--share", "--auth", "ann:k7#q"], {}, "at least 8"),
    (["--host", "192.0.2.1"], {}, "host"),
])
def test_a_wrong_setting_is_one_plain_line(tmp_path: Path, flags: list[str], variables: dict[str, str],
                                           said: str) -> None:
    answer = run("app.py", "--data-dir", str(tmp_path), *flags, **variables)
    assert answer.returncode == 2
    assert said in answer.stderr and len(answer.stderr.splitlines()) == 1, answer.stderr


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    answer = run("app.py", "--data-dir", str(tmp_path / "file" / "data"))
    assert answer.returncode == 2 and answer.stderr.startswith("data_dir: ")


def test_the_page_is_up_without_torch(tmp_path: Path) -> None:
    answer = run("-c", WITHOUT_TORCH, "--data-dir", str(tmp_path))
    assert answer.stdout.strip() == "200", answer.stderr


@pytest.mark.skipif(os.name != "posix", reason="Windows has no signals to send")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_the_program_ends_cleanly(tmp_path: Path, port: int, kind: signal.Signals) -> None:
    with started("--data-dir", str(tmp_path), "--port", str(port)) as running:
        assert running.url == f"http://127.0.0.1:{port}/"
        assert web.get(running.url).status_code == 200
        engines = psutil.Process(running.process.pid).children(recursive=True)
        assert running.end(kind) == 0
        assert "Traceback" not in running.output, running.output
        _, alive = psutil.wait_procs(engines, timeout=START_TIMEOUT_S)
        assert not alive


def test_a_busy_port_is_passed_over(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with started("--data-dir", str(tmp_path), "--port", str(port)) as running:
            assert f"Port {port} is in use" in running.output
            assert running.url != f"http://127.0.0.1:{port}/" and web.get(running.url).status_code == 200


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for the share program is a shell script")
def test_sharing_makes_a_password_and_does_not_start_an_altered_program(tmp_path: Path, port: int) -> None:
    from gradio import tunneling

    program = tmp_path / "hub" / "gradio" / "frpc" / tunneling.BINARY_FILENAME
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\necho 'start proxy success: http://x.example'\nsleep 60\n")
    program.chmod(0o755)
    with started("--data-dir", str(tmp_path / "data"), "--port", str(port), "--share",
                 HF_HOME=str(tmp_path / "hub")) as running:
        assert "No public link" in running.output and not (tmp_path / "started").exists()
        user, password = re.search(r"Log in as (\S+) with the password (\S+)", running.output).groups()
        assert len(password) >= 12 and running.output.count(password) == 1
        assert web.get(f"{running.url}config").status_code == 401
        with web.Client() as client:
            client.post(f"{running.url}login", data={"username": user, "password": password})
            assert client.get(f"{running.url}config").status_code == 200


@pytest.mark.skipif(sys.platform != "linux", reason="which libraries a process has is read in Linux' words")
def test_nothing_is_looked_up_or_connected_to_outside(tmp_path: Path, port: int) -> None:
    (tmp_path / SITE).write_text(WATCHED)
    with started("--data-dir", str(tmp_path / "data"), "--port", str(port), PYTHONPATH=str(tmp_path),
                 HF_HUB_OFFLINE="0", GRADIO_ANALYTICS_ENABLED="True") as running:
        assert web.get(running.url).status_code == 200
        assert web.get(f"{running.url}config").status_code == 200
        client = Client(running.url, verbose=False, httpx_kwargs={"timeout": START_TIMEOUT_S})
        client.predict(prompt="a cat", steps=2, width=64, height=64, api_name="/txt2img")
        client.close()
        app = psutil.Process(running.process.pid)
        libraries = [{Path(part.path).name for part in each.memory_maps()} for each in (app, *app.children())]
        assert "libtorch_cpu.so" not in libraries[0] and any("libtorch_cpu.so" in one for one in libraries[1:])
        running.end(signal.SIGTERM)
        assert running.output.count("WATCHED") >= 2 and "OUTSIDE" not in running.output, running.output
