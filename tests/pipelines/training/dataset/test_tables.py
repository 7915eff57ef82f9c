"""Tables of captions: what they say reaches the picture meant, and no other; every other line is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from pipelines.errors import RequestError
from pipelines.training.dataset import tables
from pipelines.training.dataset.survey import Survey, survey


def pictures(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((80, 80), 50 + number).convert("RGB").save(path)
    return folder


def lines(*rows: dict) -> str:
    return "\n".join(map(json.dumps, rows))


def look(folder: Path) -> tuple[dict[str, tuple[str, ...]], Survey]:
    found = survey(folder, resolution=64)
    return {one.name: one.captions for one in found}, found


@pytest.mark.parametrize("text", [
    "file_name,text\na.png,a red cat\nb.png,\"a dog, asleep\"\n",
    "\ufefffile_name;text\na.png;a red cat\nb.png;a dog, asleep\n",
    "text\tfile_name\na red cat\ta.png\na dog, asleep\tb.png\n", "a.png,a red cat\nb.png,\"a dog, asleep\"",
    "id,Image,Caption\n1,a.png,a red cat\n2,b.png,\"a dog, asleep\""])
def test_a_csv_is_read_as_spreadsheets_and_others_write_it(tmp_path, text):
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "metadata.csv").write_text(text, "utf-8")
    found, seen = look(tmp_path)
    assert found == {"a.png": ("a red cat",), "b.png": ("a dog, asleep",)} and seen.notes == ()


@pytest.mark.parametrize(("rows", "found", "note"), [
    ('a.png,"a red cat\nb.png,a dog\n', {}, "the first: 2."),  # a quote without its end
    ('a.png,"a red cat\nb.png,"a dog"\nc.png,a bird\n', {"c.png": ("a bird",)}, "the first: 2."),
    ("a.png,a red cat, asleep, at night\nb.png,a dog,,\n",
     {"a.png": ("a red cat, asleep, at night",), "b.png": ("a dog",)}, ""),
    ('a.png,a "red" cat\nb.png,"a ""big"" dog\nasleep"\nc.png\n',
     {"a.png": ('a "red" cat',), "b.png": ('a "big" dog asleep',)}, "")])
def test_quotes_and_commas_of_one_caption_never_reach_another(tmp_path, rows, found, note):
    pictures(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "metadata.csv").write_text(f"file_name,text\n{rows}")
    seen = look(tmp_path)[1]
    assert {one.name: one.captions for one in seen if one.captions} == found
    assert [each.endswith(note) for each in seen.notes] == ([True] if note else [])


def test_cells_that_no_column_tells_apart_are_told(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "metadata.csv").write_text("file_name,text,score\na.png,a red cat,3\nb.png,a dog, asleep,4\n")
    found, seen = look(tmp_path)
    assert found == {"a.png": ("a red cat",), "b.png": ()}
    assert seen.notes == ("metadata.csv: 1 of its lines cannot be read, the first: 3.",)


def test_a_list_of_tags_is_one_caption(tmp_path):
    pictures(tmp_path, "a.png")
    (tmp_path / "metadata.jsonl").write_text(lines({"file_name": "a.png", "tags": ["red", "cat"]}))
    assert look(tmp_path)[0] == {"a.png": ("red, cat",)}


@pytest.mark.parametrize("name", ["a.png", "./a.png", "train/a.png", "set/train/a.png", "A.PNG", "a", "images/a.png",
                                  "C:\\work\\old\\a.png", "/content/drive/set/train/a.png", "train\\a.png"])
def test_a_picture_is_found_however_its_folder_is_written(tmp_path, name):
    folder = pictures(tmp_path / "set", "train/a.png", "train/b.png", "test/c.png")
    (folder / "train" / "metadata.jsonl").write_text(lines({"file_name": name, "text": "a red cat"}))
    found, seen = look(folder)
    assert found == {"train/a.png": ("a red cat",), "train/b.png": (), "test/c.png": ()} and seen.notes == ()


def test_a_name_with_accents_taken_apart_is_the_same_name(tmp_path):
    pictures(tmp_path, "Mu\u0308ller.png")
    (tmp_path / "metadata.jsonl").write_text(lines({"file_name": "M\u00fcller.png", "text": "a portrait"}))
    assert look(tmp_path)[0] == {"Mu\u0308ller.png": ("a portrait",)}


def test_no_caption_goes_to_a_picture_that_may_not_be_meant(tmp_path):
    """Two lines that could mean the same picture, a name in another folder, a stem that two pictures have."""
    folder = pictures(tmp_path / "set", "a.png", "y/b.png", "c.png", "c.jpg")
    rows = [{"file_name": name, "text": name} for name in ("x/a.png", "y/a.png", "x/b.png", "c", "gone.png")]
    (folder / "metadata.jsonl").write_text(lines(*rows))
    found, seen = look(folder)
    assert not any(found.values())
    assert seen.notes == ("metadata.jsonl: 5 of its lines name no picture here: x/b.png, c, gone.png and 2 more.",)


def test_an_exact_name_goes_before_one_that_only_ends_alike(tmp_path):
    folder = pictures(tmp_path / "set", "a.png")
    rows = [{"file_name": "x/a.png", "text": "of another folder"}, {"file_name": "a.png", "text": "mine"}]
    (folder / "metadata.jsonl").write_text(lines(*rows))
    found, seen = look(folder)
    assert found == {"a.png": ("mine",)} and "name no picture here: x/a.png" in seen.notes[0]


def test_several_captions_of_a_picture_all_count(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    rows = [{"file_name": "a.png", "caption": ["a red cat", "a cat", ""]}, {"file_name": "b.png", "text": "a dog"},
            {"file_name": "b.png", "text": "a big dog"}]
    (tmp_path / "metadata.jsonl").write_text(lines(*rows))
    found, seen = look(tmp_path)
    assert found == {"a.png": ("a red cat", "a cat"), "b.png": ("a dog", "a big dog")}
    assert all(one.reasons == ("2 captions; one of them is shown at a time",) for one in seen)


def test_what_is_damaged_or_said_twice_is_told(tmp_path):
    folder = pictures(tmp_path, "a.png", "b.png", "in/c.png")
    deep = "[" * 100_000
    text = lines({"file_name": "a.png", "text": "of the table"}, {"text": "whose?"}, {"file_name": "b.png", "text": 3},
                 {"file_name": "in/c.png", "text": "from above"})
    (folder / "metadata.jsonl").write_text(f"{text}\n{{bad\n{deep}\n")
    (folder / "in" / "metadata.csv").write_text("file_name,text\nc.png,nearer\n")
    (folder / "a.txt").write_text("of the text file")
    (folder / "prices.csv").write_text("what,price\nbread,2\n")
    found, seen = look(folder)
    assert found == {"a.png": ("of the text file",), "b.png": (), "in/c.png": ("nearer",)}
    assert [one.reasons for one in seen] == [
        ("metadata.jsonl is not read: there is a.txt",), ("no caption",),
        ("metadata.jsonl is not read: there is in/metadata.csv",)]
    assert seen.notes == ("metadata.jsonl: 4 of its lines cannot be read, the first: 2, 3, 5.",
                          "prices.csv is not used: it has no column file_name.")


def test_a_table_that_cannot_be_decoded_is_told_and_read_once_its_encoding_is_chosen(tmp_path):
    pictures(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_bytes("file_name,text\na.png,一只红色的猫\n".encode("gbk"))
    found, seen = look(tmp_path)
    assert found == {"a.png": ()} and "metadata.csv is not used: " in seen.notes[0] and "encoding" in seen.notes[0]
    seen = survey(tmp_path, resolution=64, encoding="gbk")
    assert seen[0].captions == ("一只红色的猫",)
    assert seen.notes == ("metadata.csv: the table is not UTF-8; read as gbk.",)


def test_a_huge_table_is_refused_before_it_is_read(tmp_path, monkeypatch):
    pictures(tmp_path, "a.png")
    table = tmp_path / "metadata.jsonl"
    with table.open("wb") as file:
        file.truncate(20 * 10**6)
    monkeypatch.setattr(Path, "read_bytes", None)  # whoever reads it fails
    with pytest.raises(RequestError, match="metadata.jsonl has more than 16 MB"):
        survey(tmp_path, resolution=64)
    monkeypatch.undo()
    monkeypatch.setattr(tables.json, "loads", None)
    table.write_bytes(b"\n" * 10**6)
    with pytest.raises(RequestError, match="more than 200,000 lines"):
        survey(tmp_path, resolution=64)
