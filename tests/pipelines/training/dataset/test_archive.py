"""Zips that attack are refused whole, and leave nothing behind."""

from __future__ import annotations

import io
import json
import stat
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from pipelines.errors import RequestError
from pipelines.training.dataset import archive
from pipelines.training.dataset.survey import survey


def picture(seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((80, 80), 50 + seed).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    return path


def test_pictures_and_captions_come_out_as_pairs_and_junk_does_not(tmp_path):
    source = write(tmp_path / "set.zip", {
        "set/one.png": picture(), "set/one.txt": b"first", "set/deeper/one.png": picture(1),
        "set/deeper/one.txt": b"second", "__MACOSX/set/._one.png": b"x", "set/Thumbs.db": b"x", "set/._two.png": b"x",
        "set/readme.md": b"hello", "set/run.sh": b"rm"})
    folder = archive.unpack(source, tmp_path / "data")
    assert sorted(path.name for path in folder.iterdir()) == ["deeper_one.png", "deeper_one.txt", "one.png", "one.txt"]
    assert {one.name: one.caption for one in survey(folder, resolution=64)} == {
        "one.png": "first", "deeper_one.png": "second"}


def test_equal_names_stay_apart_and_keep_their_captions(tmp_path):
    source = write(tmp_path / "set.zip", {"a/b.png": picture(), "a/b.txt": b"first", "a_b.PNG": picture(1),
                                          "a_b.txt": b"second"})
    folder = archive.unpack(source, tmp_path / "data")
    assert sorted(one.caption for one in survey(folder, resolution=64)) == ["first", "second"]


def test_masks_stay_with_their_pictures_however_long_their_names_are(tmp_path):
    long = "a photo " * 10
    source = write(tmp_path / "set.zip", {
        f"a/{long}.png": picture(), f"a/{long}-masklabel.png": picture(1), "a/b.png": picture(2),
        "a_b.png": picture(3), "a_b-masklabel.png": picture(4), "a/b.txt": b"no mask"})
    folder = archive.unpack(source, tmp_path / "data")
    found = survey(folder, resolution=64)
    assert len(found) == 3 and {one.caption: one.has_mask for one in found} == {"": True, "no mask": False}


def test_a_table_finds_the_pictures_under_their_new_names(tmp_path):
    lines = [json.dumps({"file_name": name, "text": name}) for name in ("my cat.PNG", "train/a dog.png")]
    source = write(tmp_path / "set.zip", {"set/my cat.PNG": picture(), "set/train/a dog.png": picture(1),
                                          "set/metadata.jsonl": "\n".join(lines).encode()})
    folder = archive.unpack(source, tmp_path / "data")
    assert {one.name: one.caption for one in survey(folder, resolution=64)} == {
        "my_cat.png": "my cat.PNG", "train_a_dog.png": "train/a dog.png"}


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../evil.png", "C:\\evil.png", "..\\evil.png"])
def test_paths_that_lead_out_are_refused(tmp_path, name):
    check_refused(tmp_path, write(tmp_path / "set.zip", {"good.png": picture(), name: picture()}), "leads out")


def test_links_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as opened:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc/passwd")
    check_refused(tmp_path, tmp_path / "set.zip", "link")


def test_archives_within_and_members_twice_are_refused(tmp_path):
    check_refused(tmp_path, write(tmp_path / "a.zip", {"inner.zip": b"PK"}), "archive within")
    check_refused(tmp_path, write(tmp_path / "b.zip", {"one.png": picture(), "ONE.png": picture()}), "twice")


def test_bombs_are_refused_by_what_comes_out_not_by_what_they_say(tmp_path, monkeypatch):
    bomb = write(tmp_path / "ratio.zip", {"big.png": bytes(30_000_000)})
    check_refused(tmp_path, bomb, "100 times")
    monkeypatch.setattr(archive, "MAX_BYTES", 5_000)
    check_refused(tmp_path, write(tmp_path / "size.zip", {"a.png": picture()}), "more than")
    monkeypatch.setattr(archive, "MAX_MEMBERS", 3)
    check_refused(tmp_path, write(tmp_path / "many.zip", {f"{i}.txt": b"" for i in range(4)}), "4 members")


def test_encrypted_and_damaged_zips_are_refused(tmp_path):
    source = write(tmp_path / "set.zip", {"one.png": picture()})
    data = bytearray(source.read_bytes())
    at = data.index(b"PK\1\2")
    data[at + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(data)
    check_refused(tmp_path, tmp_path / "locked.zip", "encrypted")
    (tmp_path / "cut.zip").write_bytes(source.read_bytes()[:300])
    check_refused(tmp_path, tmp_path / "cut.zip", "damaged")
    spoiled = bytearray(source.read_bytes())
    spoiled[60:200] = bytes(140)
    (tmp_path / "spoiled.zip").write_bytes(spoiled)
    check_refused(tmp_path, tmp_path / "spoiled.zip", "damaged")
    (tmp_path / "text.zip").write_text("hello")
    check_refused(tmp_path, tmp_path / "text.zip", "damaged")


def check_refused(tmp_path: Path, source: Path, reason: str) -> None:
    place = tmp_path / "unpacked"
    with pytest.raises(RequestError, match=reason):
        archive.unpack(source, place / "data")
    assert list(place.iterdir()) == []  # nothing left behind
