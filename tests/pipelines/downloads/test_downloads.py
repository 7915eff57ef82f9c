"""A download arrives whole, checked and in the right folder; it can be paused, stopped, and outlives a restart."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

import pytest

from pipelines.downloads import Checking, Downloaded, DownloadFailed, Downloading, Paused, Stopped
from pipelines.downloads import fetch as fetching
from pipelines.downloads.downloads import STAGING
from pipelines.downloads.fetch import fetch, need_room
from pipelines.downloads.network import Broken
from pipelines.downloads.place import plain_name, plain_path
from pipelines.downloads.sources import RemoteFile
from pipelines.errors import ModelError, RequestError
from pipelines.library.read.card import read_folder
from tests.pipelines.library.files import checkpoint, embedding, lora, vae, write


def whole(state):
    assert isinstance(state, Downloaded), state
    return state.kind, state.name


def staged(data: Path) -> list[str]:
    return [path.name for path in (data / STAGING).rglob("*") if path.is_file()]


@pytest.fixture
def big(tmp_path) -> bytes:
    """A LoRA file of some 3 MB."""
    return write(tmp_path / "big.safetensors", {"lora_unet_x.lora_down.weight": (1024, 1024),
                                                "lora_unet_x.lora_up.weight": (500, 1024)}).read_bytes()


@pytest.mark.parametrize(("make", "kind", "folder"), [
    (checkpoint, "checkpoint", "models/checkpoints"), (lora, "lora", "loras"), (vae, "vae", "models/vae"),
    (embedding, "embedding", "models/embeddings")])
def test_a_file_goes_where_its_content_belongs(server, downloads, tmp_path, make, kind, folder):
    server.files["/files/thing.safetensors"] = data = make(tmp_path / "x.safetensors").read_bytes()
    for name in ("thing", "thing (1)"):
        download = downloads().start(f"{server.origin}/files/thing.safetensors")
        assert whole(download.wait(60)) == (kind, name)
        assert (tmp_path / "data" / folder / f"{name}.safetensors").read_bytes() == data
    assert not staged(tmp_path / "data")


def test_the_settings_of_a_lora_stay_beside_it_under_its_name(server, downloads, tmp_path):
    data, settings = lora(tmp_path / "x.safetensors").read_bytes(), b'{"lora_alpha": 16}'
    server.files["/some/style/resolve/main/adapter_model.safetensors"] = data
    server.files["/some/style/resolve/main/adapter_config.json"] = settings
    server.pages["/api/models/some/style/tree/main?recursive=true"] = [
        {"type": "file", "path": "adapter_model.safetensors", "size": len(data)},
        {"type": "file", "path": "adapter_config.json", "size": len(settings)}]
    assert whole(downloads().start("some/style").wait(60)) == ("lora", "style")
    assert (tmp_path / "data" / "loras" / "style.adapter_config.json").read_bytes() == settings


def test_a_hub_folder_arrives_whole_through_a_redirect_and_can_be_read(server, downloads, tmp_path, sd_folder):
    listed = []
    for path in sd_folder.rglob("*"):
        if path.is_file():
            name, data = path.relative_to(sd_folder).as_posix(), path.read_bytes()
            entry = {"type": "file", "path": name, "size": len(data)}
            if name.endswith(".safetensors"):
                entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data)}
                server.moved[f"/some/model/resolve/main/{name}"] = f"{server.origin}/cdn/{name}?signature=1"
                server.files[f"/cdn/{name}"] = data
            else:
                server.files[f"/some/model/resolve/main/{name}"] = data
            listed.append(entry)
    server.pages["/api/models/some/model/tree/main?recursive=true"] = listed
    assert whole(downloads().start("some/model").wait(60)) == ("checkpoint", "model")
    assert read_folder(tmp_path / "data" / "models" / "checkpoints" / "model", "model").family == "sd15"
    assert not staged(tmp_path / "data")


def test_civitais_words_are_kept_beside_the_file(server, downloads, tmp_path):
    data = lora(tmp_path / "x.safetensors").read_bytes()
    server.files["/dl"] = data
    server.pages["/api/v1/model-versions/2"] = {
        "trainedWords": ["sks"], "model": {"name": "Style"}, "files": [
            {"name": "style.safetensors", "downloadUrl": f"{server.origin}/dl",
             "hashes": {"SHA256": hashlib.sha256(data).hexdigest().upper()}}]}
    assert whole(downloads().start("civitai:1@2").wait(60)) == ("lora", "style")
    assert json.loads((tmp_path / "data" / "loras" / "style.civitai.info").read_text())["trainedWords"] == ["sks"]


def test_progress_is_told_as_values(server, downloads, big):
    server.files["/big.safetensors"] = big
    hold = threading.Event()
    server.gate = lambda sent: hold.wait(10)
    download = downloads().start(f"{server.origin}/big.safetensors")
    states = []
    for state in download.follow():
        states.append(state)
        hold.set()
    assert isinstance(states[0], Downloading) and isinstance(states[-1], Downloaded)
    told = [state for state in states if isinstance(state, Downloading) and state.total_bytes]
    assert told and all(state.total_bytes == len(big) for state in told)
    assert [state.done_bytes for state in told] == sorted(state.done_bytes for state in told)
    assert all(isinstance(state, Downloading | Checking | Downloaded) for state in states)


def paused_halfway(server, downloads, big):
    """A download that has some of the file and waits."""
    server.files["/big.safetensors"] = big
    reached, go_on = threading.Event(), threading.Event()

    def gate(sent: int) -> None:
        if sent >= len(big) // 2:
            reached.set()
            go_on.wait(10)
    server.gate = gate
    download = downloads.start(f"{server.origin}/big.safetensors")
    assert reached.wait(30)
    next(state for state in download.follow(0.01) if isinstance(state, Downloading) and state.done_bytes)
    download.pause()
    go_on.set()
    state = download.wait(30)
    server.gate = lambda sent: None
    assert isinstance(state, Paused)
    assert 0 < state.done_bytes < state.total_bytes == len(big)
    return download


def test_a_pause_keeps_what_is_here_and_a_resume_asks_for_the_rest(server, downloads, big, tmp_path):
    download = paused_halfway(server, downloads(), big)
    held = download.state.done_bytes
    download.resume()
    assert whole(download.wait(60)) == ("lora", "big")
    first, second = (headers for _, headers in server.asked)
    assert "range" not in first
    assert (second["range"], second["if-range"]) == (f"bytes={held}-", '"one"')
    assert (tmp_path / "data" / "loras" / "big.safetensors").read_bytes() == big


def test_an_unfinished_download_is_found_by_the_next_start(server, downloads, big, tmp_path):
    held = paused_halfway(server, downloads(), big).state.done_bytes
    (tmp_path / "data" / STAGING / "not ours").mkdir()
    (tmp_path / "data" / STAGING / "0123456789abcdef").mkdir()
    (again,) = downloads().list()
    assert (again.title, again.state.done_bytes) == ("big.safetensors", held)
    again.resume()
    assert whole(again.wait(60)) == ("lora", "big")


def test_another_file_under_the_same_address_is_fetched_from_its_beginning(server, downloads, big, tmp_path):
    download = paused_halfway(server, downloads(), big)
    server.etag = '"two"'
    server.files["/big.safetensors"] = changed = lora(tmp_path / "other.safetensors").read_bytes()
    download.resume()
    assert whole(download.wait(60)) == ("lora", "big")
    assert (tmp_path / "data" / "loras" / "big.safetensors").read_bytes() == changed


def test_a_server_without_parts_is_asked_for_everything_again(server, downloads, big, tmp_path):
    download = paused_halfway(server, downloads(), big)
    server.ranges = False
    download.resume()
    whole(download.wait(60))
    assert (tmp_path / "data" / "loras" / "big.safetensors").read_bytes() == big


def test_stop_leaves_nothing_behind(server, downloads, big, tmp_path):
    download = paused_halfway(server, downloads(), big)
    download.stop()
    assert isinstance(download.wait(30), Stopped)
    assert not staged(tmp_path / "data")
    download.resume()
    assert isinstance(download.wait(30), Stopped)
    assert len(server.asked) == 1


def test_a_connection_that_breaks_is_made_anew(server, downloads, big, tmp_path):
    server.files["/big.safetensors"] = big
    server.break_after = [1_500_000, 1_200_000]
    assert whole(downloads().start(f"{server.origin}/big.safetensors").wait(60)) == ("lora", "big")
    assert len(server.asked) == 3
    assert (tmp_path / "data" / "loras" / "big.safetensors").read_bytes() == big


def test_a_server_that_never_gets_on_is_given_up_and_can_be_resumed(server, downloads, big, tmp_path):
    server.files["/big.safetensors"] = big
    server.break_after = [1_500_000] + [0] * fetching.MAX_TRIES
    download = downloads().start(f"{server.origin}/big.safetensors")
    state = download.wait(60)
    assert isinstance(state, DownloadFailed) and state.can_resume
    download.resume()
    assert whole(download.wait(60)) == ("lora", "big")


def test_a_content_that_was_not_announced_is_not_kept(server, downloads, tmp_path):
    server.files["/dl"] = lora(tmp_path / "x.safetensors").read_bytes()
    server.pages["/api/v1/model-versions/2"] = {"files": [
        {"name": "style.safetensors", "downloadUrl": f"{server.origin}/dl", "hashes": {"SHA256": "0" * 64}}]}
    state = downloads().start("civitai:1@2").wait(60)
    assert "style.safetensors was not kept: its content is not what was announced" in str(state.error)
    assert not staged(tmp_path / "data") and not (tmp_path / "data" / "loras").exists()


@pytest.mark.parametrize(("data", "words"), [
    (b"<html>please log in</html>", "does not begin with a safetensors header"),
    (b"\x02\0\0\0\0\0\0\0{}", "no checkpoint, LoRA, autoencoder or embedding")])
def test_what_is_no_model_is_not_kept(server, downloads, tmp_path, data, words):
    server.files["/x.safetensors"] = data
    state = downloads().start(f"{server.origin}/x.safetensors").wait(60)
    assert isinstance(state, DownloadFailed) and words in str(state.error)
    assert not staged(tmp_path / "data")


def test_visitors_of_a_public_page_and_offline_apps_fetch_nothing(server, downloads):
    server.files["/x.safetensors"] = b"x"
    with pytest.raises(RequestError, match="only the owner"):
        downloads(public=True).start(f"{server.origin}/x.safetensors")
    with pytest.raises(RequestError, match="--offline"):
        downloads(offline=True).start(f"{server.origin}/x.safetensors", is_owner=True)
    assert server.asked == []
    assert isinstance(downloads(public=True).start(f"{server.origin}/x.safetensors", is_owner=True).wait(60),
                      DownloadFailed)


def test_a_token_is_sent_and_never_shown(server, downloads, big, tmp_path, caplog):
    caplog.set_level("DEBUG")
    download = paused_halfway(server, made := downloads(), big)
    assert server.asked[0][1]["authorization"] == "Bearer a-secret-token"
    on_disk = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*.json"))
    assert "a-secret-token" not in f"{caplog.text} {download.state!r} {vars(made)!r} {vars(download)!r}"
    assert b"a-secret-token" not in on_disk


def test_a_full_disk_is_said_before_anything_is_fetched(server, network, tmp_path):
    with pytest.raises(ModelError, match=r"GB of disk are needed and .* GB are free"):
        need_room(tmp_path, 10**18)
    server.files["/x"] = b"12345"
    with pytest.raises(ModelError, match="GB of disk are needed"):
        list(fetch(network, RemoteFile(f"{server.origin}/x", "x"), tmp_path / "x.part", reserve_bytes=10**18))
    assert not (tmp_path / "x.part").exists()


def test_nothing_is_asked_again_for_a_file_that_is_all_there(server, network, tmp_path):
    server.files["/x"] = b"12345"
    (tmp_path / "x.part").write_bytes(b"12345")
    assert list(fetch(network, RemoteFile(f"{server.origin}/x", "x", 5), tmp_path / "x.part")) == []
    assert server.asked == []
    assert list(fetch(network, RemoteFile(f"{server.origin}/x", "x"), tmp_path / "x.part")) == []  # 416
    assert (tmp_path / "x.part").read_bytes() == b"12345"


def test_a_server_that_is_not_there_is_broken_and_no_crash(server, network, tmp_path):
    address = f"{server.origin}/x"
    server.shutdown()
    server.server_close()
    with pytest.raises(Broken, match="does not answer"):
        list(fetch(network, RemoteFile(address, "x"), tmp_path / "x.part"))


@pytest.mark.parametrize("name", ["../../etc/passwd", "..\\..\\x", "/abs", "C:\\x", "a\0b", "CON", "nul.safetensors",
                                  "", "...", ".hidden", "x" * 5000, "a:b", "a\nb", "日本 model.safetensors"])
def test_a_name_from_outside_cannot_lead_out_of_its_folder(tmp_path, name):
    plain = plain_name(name)
    assert plain and len(plain) <= 130 and not plain.startswith(".")
    assert (tmp_path / plain).resolve().parent == tmp_path.resolve()
    assert (tmp_path / plain_path(name)).resolve().is_relative_to(tmp_path.resolve())
    (tmp_path / plain).write_bytes(b"")
    assert plain_name(plain) == plain
    assert plain.split(".")[0].upper() not in ("CON", "NUL")


def test_too_many_at_once_are_refused(server, downloads, big):
    server.files["/big.safetensors"] = big
    hold = threading.Event()
    server.gate = lambda sent: hold.wait(30)
    made = downloads()
    for _ in range(3):
        made.start(f"{server.origin}/big.safetensors")
    with pytest.raises(RequestError, match="3 are running already"):
        made.start(f"{server.origin}/big.safetensors")
    hold.set()
    names = [whole(download.wait(60))[1] for download in made.list()]
    assert sorted(names) == ["big", "big (1)", "big (2)"]
