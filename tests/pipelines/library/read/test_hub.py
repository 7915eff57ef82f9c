"""Models of the hub, from a server on this machine that stands in for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipelines.errors import Cancelled
from pipelines.library.read.card import ModelCard
from pipelines.library.read.hub import hub_folder

COMMIT = "1" * 40
FILES = {"model_index.json": 2, "unet/config.json": 2, "unet/diffusion_pytorch_model.safetensors": 48 * 2**20}
ASKED_BEFORE_STOP = 4


class Hub(BaseHTTPRequestHandler):
    """A repository of zeros."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._head()

    def do_GET(self) -> None:
        listing, size = self._head()
        try:
            for _ in range(0 if listing else size // 2**20):
                self.wfile.write(bytes(2**20))
            self.wfile.write(listing or bytes(size % 2**20))
        except OSError:  # who asked has gone
            pass

    def _head(self) -> tuple[bytes, int]:
        listing = b""
        if "/tree/" in self.path:
            rows = [{"type": "file", "path": name, "size": size, "oid": _tag(name)} for name, size in FILES.items()]
            listing = json.dumps(rows).encode()
        elif self.path.startswith("/api/"):
            names = [{"rfilename": name} for name in FILES]
            listing = json.dumps({"id": "a/b", "sha": COMMIT, "siblings": names}).encode()
        name = self.path.partition(f"/resolve/{COMMIT}/")[2]
        size = len(listing) or FILES[name]
        self.send_response(200)
        for header, value in (("Content-Length", str(size)), ("Content-Type", "application/json"),
                              ("X-Repo-Commit", COMMIT), ("ETag", f'"{_tag(name)}"')):
            self.send_header(header, value)
        self.end_headers()
        return listing, size


def _tag(name: str) -> str:
    return name.encode().hex()[:40].ljust(40, "0")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    files = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield
    server.shutdown()
    server.server_close()


def test_stop_reaches_a_download_of_the_hub_between_two_pieces(hub: None, tmp_path: Path) -> None:
    asked = []

    def go_on() -> None:
        asked.append(threading.get_ident())
        if len(asked) > ASKED_BEFORE_STOP:
            raise Cancelled("stopped")

    card = ModelCard("a/b", "a/b", None, "sd15", "hub", 0, 512, 20, 7.5, "Euler", "Automatic", 0, fingerprint="x")
    with pytest.raises(Cancelled):
        hub_folder(card, half=False, offline=False, go_on=go_on)
    assert len(asked) <= ASKED_BEFORE_STOP + len(FILES)  # once more in each thread that fetches
    whole = [path for path in (tmp_path / "cache").rglob("*.safetensors") if path.stat().st_size]
    assert whole == []
