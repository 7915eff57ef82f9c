"""Addresses of files: good for one visitor, and silent about where the data folder lies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from pipelines.settings import load
from tests.ui import web
from tests.ui.small_page import file_data, small_page
from ui.server.addresses import PREFIX, Addresses
from ui.server.launch import Running, launch
from ui.visitors import Visitors

PASSWORD = "violet-otter-71"
SIGN = {"username": "ann", "password": PASSWORD}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A page that asks guests for a password."""
    folder = tmp_path_factory.mktemp("secret-place")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "cache"))
        running = launch(small_page(), load(["--data-dir", str(folder), "--host", "0.0.0.0", "--auth",
                                             f"ann:{PASSWORD}"], {}), port=0)
        yield running
        running.close()


def guest(url: str) -> httpx.Client:
    client = web.Client(base_url=url, timeout=60)
    client.post("login", data=SIGN).raise_for_status()
    return client


def sized(client: httpx.Client, path: str) -> str:
    joined = client.post("gradio_api/call/size", json={"data": [file_data(path)]})
    if joined.status_code != 200:
        return f"{joined.status_code} {joined.text}"
    return client.get(f"gradio_api/call/size/{joined.json()['event_id']}").text


def test_a_guest_cannot_open_or_use_the_picture_of_another(shared: Running, tmp_path: Path) -> None:
    picture = tmp_path / "my own picture.png"
    Image.new("RGB", (16, 24), "red").save(picture)
    with closing(guest(shared.url)) as mine, closing(guest(shared.url)) as other:
        path = mine.post("gradio_api/upload", files={"files": picture.open("rb")}).json()[0]
        assert path.startswith(PREFIX) and "secret-place" not in path
        assert mine.get(f"gradio_api/file={path}").content == picture.read_bytes()
        assert "16x24" in sized(mine, path)
        assert other.get(f"gradio_api/file={path}").status_code == 403
        assert sized(other, path).startswith("403")
        assert web.get(f"{shared.url}gradio_api/file={path}").status_code == 401
        real, = (place for place in Path(shared.demo.GRADIO_CACHE).resolve().rglob("*.png"))
        for spelled in (str(real), f"{real.parent}/../{real.parent.name}/{real.name}", path[:-1],
                        path.replace("/files/", "/files/0"), f"{PREFIX}{'0' * 32}/a/b.png"):
            assert mine.get(f"gradio_api/file={spelled}").status_code == 403, spelled
            assert "16x24" not in sized(mine, spelled), spelled


def test_an_address_outlives_the_login(shared: Running, tmp_path: Path) -> None:
    with closing(guest(shared.url)) as client:
        path = client.post("gradio_api/upload", files={"files": ("a.png", b"x")}).json()[0]
        client.get("logout")
        assert client.get(f"gradio_api/file={path}").status_code == 401
        client.post("login", data=SIGN)
        assert client.get(f"gradio_api/file={path}").content == b"x"


def test_programs_get_their_pictures(shared: Running, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    Image.new("RGB", (16, 24), "red").save(picture)
    program = Client(shared.url, auth=("ann", PASSWORD), verbose=False)
    assert program.predict(handle_file(str(picture)), api_name="/size") == "16x24"


@pytest.mark.parametrize("folder", ["/home/ann/data/cache", "C:\\Users\\ann\\cache", "/home/ännchen/größe/cache"])
def test_every_spelling_of_a_place_is_hidden(folder: str) -> None:
    addresses = Addresses(Path(folder), Visitors())
    separator = "\\" if "\\" in folder else "/"
    place = separator.join((folder, "ab12", "my picture (1).png"))
    told = {"path": place, "url": f"http://x/gradio_api/file={place}", "text": "of ann"}
    for text in (json.dumps(told, ensure_ascii=False), f"data: {json.dumps([told], ensure_ascii=False)}\n\n"):
        hidden = addresses.hide(text.encode(), "me").decode()
        assert json.dumps(folder, ensure_ascii=False)[1:-1] not in hidden and "my picture (1).png" in hidden
    address = json.loads(addresses.hide(json.dumps(told, ensure_ascii=False).encode(), "me"))["path"]
    assert str(addresses.place(address, "me")).endswith("ab12/my picture (1).png")
    assert addresses.place(address, "you") is None and addresses.place(address + "x", "me") is None
