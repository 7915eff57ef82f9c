"""Zips that attack are refused whole, and leave nothing behind."""

from __future__ import annotations

import io
import json
import os
import stat
import struct
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
    assert sorted(path.name for path in folder.iterdir()) == [".names.json", "deeper_one.png", "deeper_one.txt",
                                                              "one.png", "one.txt"]
    found = survey(folder, resolution=64)
    assert {one.name: one.caption for one in found} == {"one.png": "first", "deeper_one.png": "second"}
    assert found.notes == ("Not used, as neither pictures nor captions: set/readme.md, set/run.sh.",)


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


def captions_of(source: Path) -> dict[str, str]:
    folder = archive.unpack(source, source.with_suffix(""))
    found = survey(folder, resolution=64)
    assert found.notes == ()
    return {one.name: one.caption for one in found}


def test_names_that_become_one_keep_their_own_captions_from_a_table(tmp_path):
    rows = [{"file_name": "cat (1).png", "text": "round"}, {"file_name": "cat [1].png", "text": "square"}]
    for number, order in enumerate((1, -1)):
        members = [("cat (1).png", picture()), ("cat [1].png", picture(1))][::order]
        table = "\n".join(map(json.dumps, rows)).encode()
        source = write(tmp_path / f"{number}.zip", {**dict(members), "metadata.jsonl": table})
        first, second = ("round", "square")[::order]
        assert captions_of(source) == {"cat__1_.png": first, "cat__1_-2.png": second}


def test_tables_of_several_folders_are_read_each_for_its_own(tmp_path):
    table = {top: json.dumps({"file_name": "a.png", "text": f"of {top}"}).encode() for top in ("train", "test")}
    source = write(tmp_path / "set.zip", {"train/a.png": picture(), "test/a.png": picture(1),
                                          "train/metadata.jsonl": table["train"], "test/metadata.jsonl": table["test"]})
    assert captions_of(source) == {"train_a.png": "of train", "test_a.png": "of test"}


def test_pairs_stay_pairs_when_capitals_or_accents_are_written_in_two_ways(tmp_path):
    source = write(tmp_path / "set.zip", {"Mu\u0308ller.png": picture(), "M\u00fcller.txt": b"a portrait",
                                          "IMG.JPG": picture(1), "img.TXT": b"a cat"})
    assert sorted(captions_of(source).values()) == ["a cat", "a portrait"]


def test_names_in_utf_8_that_do_not_say_so_are_read_as_macos_writes_them(tmp_path):
    source = write(tmp_path / "set.zip", {"Müller.png": picture(), "metadata.csv": "Müller.png,a portrait".encode()})
    data = source.read_bytes()
    for mark, at in ((b"PK\3\4", 7), (b"PK\1\2", 9)):
        place = data.index(mark) + at
        data = data[:place] + bytes([data[place] & ~8]) + data[place + 1:]
    (tmp_path / "mac.zip").write_bytes(data)
    assert captions_of(tmp_path / "mac.zip") == {"Müller.png": "a portrait"}


def test_folders_of_kohyas_trainer_keep_their_meaning(tmp_path):
    source = write(tmp_path / "set.zip", {"img/10_sks dog/a.png": picture(), "img/2_cat/b.png": picture(1)})
    found = survey(archive.unpack(source, tmp_path / "data"), resolution=64)
    assert {one.caption: one.repeats for one in found} == {"sks dog": 10, "cat": 2}


def test_every_kind_of_picture_that_a_folder_may_hold_comes_out_of_a_zip(tmp_path):
    place = tmp_path / "set"
    place.mkdir()
    for name in ("a.bmp", "b.tif", "c.gif", "d.avif", "e.jpg", "f.png", "g.webp", "h.TIFF"):
        Image.effect_noise((80, 80), ord(name[0])).convert("RGB").save(place / name)
        (place / f"{name[0]}.txt").write_text(name)
    zipped = write(tmp_path / "set.zip", {path.name: path.read_bytes() for path in sorted(place.iterdir())})
    in_folder, in_zip = survey(place, resolution=64), survey(archive.unpack(zipped, tmp_path / "data"), resolution=64)
    assert len(in_zip) == 8
    assert [(one.name.lower(), one.verdict, one.reasons) for one in in_folder] == [
        (one.name, one.verdict, one.reasons) for one in in_zip]


def test_a_directory_of_a_quarter_of_a_million_members_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """The end of a zip says how large its directory is; `zipfile` would parse all of it, whatever the count says."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0) + b"a.png"
    size = len(entry) * 250_000
    with (tmp_path / "many.zip").open("wb") as file:
        file.write(entry * 250_000)
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, size, 0, 0))
    monkeypatch.setattr(zipfile, "ZipInfo", None)  # whoever makes one of a member fails
    check_refused(tmp_path, tmp_path / "many.zip", "its list of members has 12.8 MB; the limit is 2.0 MB")


def test_a_table_in_a_zip_is_refused_as_soon_as_it_is_too_large(tmp_path):
    source = write(tmp_path / "set.zip", {"a.png": os.urandom(300_000), "metadata.jsonl": b"\n" * 20_000_000})
    check_refused(tmp_path, source, "metadata.jsonl has more than 16 MB")


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
