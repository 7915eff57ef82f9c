"""The real server on loopback, attacked over HTTP."""

from __future__ import annotations

import io
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.testclient import TestClient

from pipelines.settings import load
from tests.ui import web
from tests.ui.small_page import SECRET_DETAIL, call, file_data, small_page, upload
from ui.server.guard import MAX_BODY_BYTES, OWN_UPLOAD_BYTES, Guard, limit_decoders
from ui.server.hosts import Hosts
from ui.server.launch import Running, launch


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def running(data_dir: Path) -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(data_dir / "cache"))
        patch.setenv("GRADIO_ALLOWED_PATHS", "/")  # nothing of this may open the page to anybody
        patch.setenv("GRADIO_SHARE", "True")
        patch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
        patch.setenv("GRADIO_MCP_SERVER", "True")
        patch.setenv("GRADIO_ROOT_PATH", "/elsewhere")
        server = launch(small_page(), load(["--data-dir", str(data_dir)], {}), port=0)
        yield server
        server.close()


@pytest.fixture(scope="module")
def url(running: Running) -> str:
    return running.url


@pytest.fixture(scope="module")
def guest(running: Running, data_dir: Path) -> Iterator[httpx.Client]:
    """Somebody who has logged in to a page that others can reach."""
    settings = load(["--data-dir", str(data_dir), "--host", "0.0.0.0", "--auth", "ann:a good password 1"], {})
    server = launch(small_page(), settings, port=0)
    with web.Client(base_url=server.url, timeout=60) as client:
        client.post("login", data={"username": "ann", "password": "a good password 1"}).raise_for_status()
        yield client
    server.close()


@pytest.fixture
def decoders(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    limit_decoders()


def status(url: str, path: str, **headers: str) -> int:
    return web.get(f"{url}{path}", headers=headers).status_code


def is_plain(answer: httpx.Response) -> bool:
    return answer.headers["content-type"].startswith("text/plain") and len(answer.text) < 100


def png(width: int, height: int) -> bytes:
    """A black PNG of any size, a thousandth of what it unpacks to."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compressobj(9)
    packed = b"".join(rows.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_the_page_and_its_own_calls_work(url: str) -> None:
    assert status(url, "") == status(url, "config") == status(url, "gradio_api/info") == 200
    assert status(url, "config", Origin=url.rstrip("/")) == 200
    assert '["hello"]' in call(url, "echo", ["hello"])


def test_only_this_machine_can_connect(url: str) -> None:
    port = int(url.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=60)


def test_other_sites_are_refused(url: str) -> None:
    for origin in ("https://other.example", "null", "http://127.0.0.1:1", "http://localhost.other.example", ""):
        answer = web.post(f"{url}gradio_api/call/echo", json={"data": ["x"]}, headers={"Origin": origin})
        assert answer.status_code == 403 and is_plain(answer), origin
    assert status(url, "config", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}) == 403
    assert status(url, "", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}) == 200  # a followed link


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1.other.example", "localhost:80:80", "user@localhost",
                                  "192.0.2.1", "", "2130706433", "[::1", "localhost other.example"])
def test_unknown_host_names_are_refused(url: str, host: str) -> None:
    answer = web.get(f"{url}config", headers={"Host": host})
    assert answer.status_code == 400


@pytest.mark.parametrize(("asked", "said"), [
    ({}, "Not found."), ({"accept-language": "de-CH"}, "Das gibt es hier nicht."),
    ({"accept-language": "de", "cookie": "atelier-language=en"}, "Not found.")])
def test_a_refusal_is_in_the_language_of_who_asks(url: str, asked: dict, said: str) -> None:
    assert web.get(f"{url}gradio_api/nowhere", headers=asked).text == said


def test_a_server_for_all_addresses_answers_to_addresses_but_not_to_foreign_names() -> None:
    hosts = Hosts("0.0.0.0")
    assert "192.168.1.5:7860" in hosts and "[fe80::1]:7860" in hosts and socket.gethostname() in hosts
    assert "other.example" not in hosts and "192.168.1.5.other.example" not in hosts


def test_the_share_link_is_answered_only_while_it_is_open() -> None:
    hosts = Hosts("127.0.0.1")
    hosts.share("Abc.share.example")
    assert "abc.share.example" in hosts and hosts.is_own("https://abc.share.example", "127.0.0.1:7860")
    hosts.unshare("Abc.share.example")
    assert "abc.share.example" not in hosts and not hosts.is_own("https://abc.share.example", "127.0.0.1:7860")


@pytest.mark.parametrize("path", [
    "openapi.json", "gradio_api/openapi.json", "docs", "redoc", "monitoring", "monitoring/summary", "monitoring/x",
    "gradio_api/mcp/", "gradio_api/mcp/schema", "gradio_api/runs", "gradio_api/run-history/records", "?deep_link=x",
    "?deep%5flink=x", "gradio_api/deep_link?session_hash=x", "gradio_api/custom_component/a/client/component/x.js",
    "gradio_api/proxy=https://x.hf.space/", "gradio_api/token", "gradio_api/dev/reload", "gradio_api/vibe-code",
    "gradio_api/file/etc/hostname", "gradio_api/stream/a/b/1/playlist.m3u8", "pwa_icon", "elsewhere/config",
])
def test_side_doors_are_closed(url: str, path: str) -> None:
    for spelling in (path, path.replace("o", "%6f")):
        answer = web.get(f"{url}{spelling}")
        assert answer.status_code == 404 and is_plain(answer), spelling


def test_component_functions_and_recordings_cannot_be_called(url: str) -> None:
    for path in ("component_server", "component_server/", "%63omponent_server", "process_recording", "vibe-edit/"):
        assert web.post(f"{url}gradio_api/{path}", json={}).status_code == 404


def test_the_queue_cannot_be_bypassed(url: str) -> None:
    assert web.post(f"{url}gradio_api/run/echo", json={"data": ["x"]}).status_code == 404


@pytest.fixture
def bait() -> Iterator[tuple[str, list[str]]]:
    """A web server that notes who asks it for a picture."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/x.png", asked
    server.shutdown()
    server.server_close()


def test_links_are_not_fetched_for_visitors(url: str, bait: tuple[str, list[str]]) -> None:
    link, asked = bait
    for target in (link, link.replace("h", "%68", 1), link.replace("h", "%2568", 1), "https://192.0.2.1/x",
                   "HTTP://192.0.2.1/", "ftp://192.0.2.1/x", "file:///etc/hostname"):
        answer = web.get(f"{url}gradio_api/file={target}")
        assert answer.status_code == 403 and is_plain(answer), target
    for given in (file_data(link), {"nested": [file_data(link)]}, file_data("https://192.0.2.1/x.png")):
        answer = web.post(f"{url}gradio_api/queue/join", json={"data": [given], "fn_index": 1, "session_hash": "x"})
        assert answer.status_code == 403 and "Links are not fetched" in answer.text
        assert call(url, "size", [given]).startswith("403")
    assert asked == []


def test_only_files_of_the_cache_are_served(url: str, data_dir: Path) -> None:
    saved = data_dir / "outputs" / "00001.png"
    saved.parent.mkdir(exist_ok=True)
    saved.write_bytes(png(8, 8))
    (data_dir / "cache").mkdir(exist_ok=True)
    (data_dir / "cache" / "link.png").symlink_to(saved)
    uploaded = upload(url, png(8, 8))
    assert status(url, f"gradio_api/file={uploaded}") == 200
    cache = data_dir / "cache"
    for target in (saved, f"{cache}/%2e%2e/outputs/00001.png", cache / "link.png", cache / "missing.png", cache,
                   "/etc/hostname", "%2e%2e/%2e%2e/etc/hostname", "a%00b", "x" * 5000):
        answer = web.get(f"{url}gradio_api/file={target}")
        assert answer.status_code == 403 and "Traceback" not in answer.text, target


@pytest.mark.parametrize("name", ["page.html", "page.HTM", "drawing.svg", "page.xhtml", "words.xml", "code.js", "x"])
def test_an_uploaded_file_is_never_opened_as_a_page(url: str, name: str) -> None:
    path = upload(url, b"<html><script>alert(1)</script></html>", name)
    for headers in ({}, {"Range": "bytes=0-9"}):
        answer = web.get(f"{url}gradio_api/file={path}", headers=headers)
        assert answer.is_success and answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"] == "attachment"
    picture = web.get(f"{url}gradio_api/file={upload(url, png(8, 8))}")
    assert picture.headers["content-type"] == "image/png" and "inline" in picture.headers["content-disposition"]


def test_files_that_were_not_uploaded_cannot_be_given_as_pictures(url: str) -> None:
    assert "event: error" in call(url, "size", [file_data("/etc/hostname")])


def test_a_disk_that_is_almost_full_takes_no_more_uploads(tmp_path: Path) -> None:
    full = Guard(PlainTextResponse("taken"), Hosts("127.0.0.1"), tmp_path, spare_bytes=2**60)
    app = Starlette(routes=[Mount("/", full)])  # whose login nobody asks for
    app.auth = None
    client = TestClient(app, base_url="http://127.0.0.1")
    assert client.post("/gradio_api/upload").status_code == 507
    assert client.get("/config").text == "taken"


def test_large_requests_are_refused(url: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 100_000

    large = b" " * (MAX_BODY_BYTES + 1)
    for body in (large, endless()):
        answer = web.post(f"{url}gradio_api/queue/join", content=body)
        assert answer.status_code == 413 and is_plain(answer)
    assert web.post(f"{url}login", content=large).status_code == 413
    port = int(url.rsplit(":", 1)[1].strip("/"))
    with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:  # refused before a byte of it is sent
        raw.sendall(f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                    f"Content-Length: {OWN_UPLOAD_BYTES + 1}\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 413")


def test_a_zip_of_photos_may_be_uploaded_where_nobody_else_can_and_not_by_guests(url: str, guest: httpx.Client) -> None:
    photos = {"files": ("a", b"0" * 21_000_000)}
    assert web.post(f"{url}gradio_api/upload", files=photos, timeout=60).status_code == 200
    assert guest.post("gradio_api/upload", files=photos).status_code == 413


def test_an_upload_without_a_length_is_cut_off_and_leaves_nothing(guest: httpx.Client, data_dir: Path) -> None:
    def parts() -> Iterator[bytes]:
        for number in range(5):
            yield (f'--x\r\nContent-Disposition: form-data; name="files"; filename="{number}.png"\r\n\r\n').encode()
            yield from (b"0" * 2**20 for _ in range(15))
            yield b"\r\n"
        yield b"--x--\r\n"

    before = set((data_dir / "cache").rglob("*"))
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = guest.post("gradio_api/upload", content=parts(), headers=headers)
    assert answer.status_code == 413 and is_plain(answer)
    assert set((data_dir / "cache").rglob("*")) == before


def test_deeply_nested_json_is_refused(url: str) -> None:
    body = b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert web.post(f"{url}gradio_api/queue/join", content=body).status_code == 400


def test_every_answer_carries_the_security_headers(url: str) -> None:
    for answer in (web.get(url), web.get(f"{url}nowhere"), web.get(f"{url}theme.css")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'self'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "noindex" in answer.headers["x-robots-tag"]


def test_forged_forwarding_headers_change_nothing(url: str) -> None:
    forged = {"X-Forwarded-Host": "other.example", "X-Gradio-Server": "http://other.example"}
    assert "other.example" not in web.get(url, headers=forged).text
    assert "other.example" not in web.get(f"{url}config", headers=forged).text
    assert '["127.0.0.1"]' in call(url, "who", [], **{"X-Forwarded-For": "203.0.113.9"})


def test_errors_do_not_show_the_insides(url: str) -> None:
    answer = call(url, "fail", [])
    assert "event: error" in answer
    assert SECRET_DETAIL not in answer and "RuntimeError" not in answer


def test_websockets_are_closed(url: str) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert web.get(f"{url}gradio_api/queue/join", headers=upgrade).status_code >= 400


@pytest.mark.parametrize("kind", ["ICO", "PPM", "TGA", "PCX", "JPEG2000", "EPS"])
def test_other_formats_are_not_decoded_whatever_they_are_called(url: str, decoders: None, kind: str) -> None:
    packed = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(packed, kind)
    assert "event: error" in call(url, "size", [file_data(upload(url, packed.getvalue()))])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "BMP", "TIFF", "GIF"])
def test_the_kinds_that_are_accepted_are_decoded(url: str, decoders: None, kind: str) -> None:
    packed = io.BytesIO()
    Image.new("RGB", (16, 24), "red").save(packed, kind)
    assert "16x24" in call(url, "size", [file_data(upload(url, packed.getvalue()))])


def test_a_photo_of_a_modern_camera_is_no_bomb(url: str, decoders: None) -> None:
    packed = io.BytesIO()
    Image.new("L", (6000, 4000)).save(packed, "JPEG")
    assert "6000x4000" in call(url, "size", [file_data(upload(url, packed.getvalue()))])


def test_a_decompression_bomb_is_refused(url: str, decoders: None) -> None:
    assert "event: error" in call(url, "size", [file_data(upload(url, png(13_300, 13_300)))])
