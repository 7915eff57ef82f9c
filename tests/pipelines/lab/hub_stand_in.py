"""A server on loopback that stands in for the Hugging Face hub: repositories that can be made, filled, listed, read."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_stand_in"
ASKED = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+?)(?:/(revision|tree|preupload|commit)/([^/?]+)/?"
                   r"([^?]*))?(?:\?.*)?")
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)(?:\?.*)?")


class Hub(ThreadingHTTPServer):
    """repositories: "models/owner/name" or "datasets/owner/name" -> path -> bytes. private: those that want TOKEN."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.asked: list[str] = []

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self, home: str) -> dict[str, str]:
        """What a program needs to know to take this for the hub. home: for its cache."""
        return {"HF_ENDPOINT": self.origin, "HF_HOME": home, "HF_HUB_CACHE": f"{home}/hub", "HF_HUB_OFFLINE": "0",
                "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        if match := FILE.fullmatch(self.path):
            kind, name, _, path = match.groups()
            files = self._allowed(f"{'datasets' if kind else 'models'}/{name}")
            if files is not None:
                self._file(files, unquote(path))
        elif match := ASKED.fullmatch(self.path):
            kind, name, what, _, inside = match.groups()
            files = self._allowed(f"{kind}/{name}")
            if files is not None:
                deep = "recursive=true" in self.path.lower()
                self._json(_tree(files, unquote(inside), deep) if what == "tree" else _about(name, files))
        else:
            self._missing("RepoNotFound", 404)

    def do_POST(self) -> None:
        self.server.asked.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._missing("", 401)
            return
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = asked["name"] if "organization" not in asked else f"{asked['organization']}/{asked['name']}"
            self.server.repositories.setdefault(f"models/{name}", {})
            self.server.private |= {f"models/{name}"} if asked.get("visibility") == "private" else set()
            self._json({"url": f"{self.server.origin}/{name}", "name": name, "id": name})
            return
        kind, name, what, _, _ = ASKED.fullmatch(self.path).groups()
        files = self.server.repositories[f"{kind}/{name}"]
        if what == "preupload":
            self._json({"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                                  for one in json.loads(body)["files"]]})
        else:
            lines = map(json.loads, body.splitlines())
            files |= {line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines
                      if line["key"] == "file"}
            self._json({"success": True, "commitOid": _sha(files), "hookOutput": "",
                        "commitUrl": f"{self.server.origin}/{name}/commit/{_sha(files)}"})

    def _allowed(self, repository: str) -> dict[str, bytes] | None:
        """The files of a repository, or None after an error was sent: who may not see it is told that it is not."""
        files = self.server.repositories.get(repository)
        hidden = repository in self.server.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        if files is None or hidden:
            self._missing("RepoNotFound", 401 if hidden else 404)
            return None
        return files

    def _file(self, files: dict[str, bytes], path: str) -> None:
        if path not in files:
            self._missing("EntryNotFound", 404)
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(files[path]).hexdigest()}"')
        self.send_header("X-Repo-Commit", _sha(files))
        self._body(files[path])

    def _json(self, value: object) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self._body(json.dumps(value).encode())

    def _missing(self, code: str, status: int) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self._body(b"{}")

    def _body(self, data: bytes) -> None:
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def _sha(files: dict[str, bytes]) -> str:
    return hashlib.sha1(b"".join(name.encode() + files[name] for name in sorted(files))).hexdigest()


def _about(name: str, files: dict[str, bytes]) -> dict[str, object]:
    return {"_id": "0" * 24, "id": name, "sha": _sha(files), "private": False, "gated": False, "disabled": False,
            "downloads": 0, "likes": 0, "tags": [], "siblings": [{"rfilename": path} for path in files],
            "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z"}


def _tree(files: dict[str, bytes], inside: str, deep: bool) -> list[dict[str, object]]:
    """Files and folders in a folder; deep: in those inside it too."""
    start = f"{inside}/" if inside else ""
    below = [path.removeprefix(start) for path in files if path.startswith(start)]
    folders = {start + path.partition("/")[0] for path in below if "/" in path}
    return [{"type": "file", "path": start + path, "size": len(files[start + path]),
             "oid": hashlib.sha1(files[start + path]).hexdigest()} for path in below if deep or "/" not in path] + [
        {"type": "directory", "path": folder, "size": 0, "oid": "0" * 40} for folder in sorted(folders)]


@contextmanager
def standing_in() -> Iterator[Hub]:
    """A hub without any repositories."""
    hub = Hub()
    threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
