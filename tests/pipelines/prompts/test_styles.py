"""AUTOMATIC1111's styles file."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipelines.errors import RequestError, StudioError
from pipelines.prompts.styles import MAX_NAME, Style, Styles, apply, read, write

STYLES = (Style("Ölbild", 'oil on canvas, "impasto", {prompt}', "photo"), Style("two\nlines", "a,\nb", ""),
          Style("empty"))


def test_what_is_written_is_read_again(tmp_path):
    write(tmp_path / "new" / "styles.csv", STYLES)
    assert read(tmp_path / "new" / "styles.csv") == STYLES
    raw = (tmp_path / "new" / "styles.csv").read_bytes()
    assert raw.startswith(b"\xef\xbb\xbfname,prompt,negative_prompt\r\n")


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1", "-1, fog", " =HYPERLINK(1)", "\t=1", "'=1", "''=1"])
def test_no_cell_is_a_formula_for_a_spreadsheet(tmp_path, text):
    styles = (Style(f"{text.strip()} name", text, text),)
    write(tmp_path / "styles.csv", styles)
    lines = (tmp_path / "styles.csv").read_text("utf-8-sig").splitlines()[1:]
    cells = [cell for row in csv.reader(lines) for cell in row]
    assert len(cells) == 3 and all(cell.startswith("'") for cell in cells)
    back, = read(tmp_path / "styles.csv")
    assert (back.name, back.prompt.strip()) == (styles[0].name, text.strip())
    write(tmp_path / "styles.csv", (back,))
    assert read(tmp_path / "styles.csv") == (back,)  # nothing grows


def test_the_file_before_is_kept(tmp_path):
    write(tmp_path / "styles.csv", STYLES)
    write(tmp_path / "styles.csv", STYLES[:1])
    assert read(tmp_path / "styles.csv") == STYLES[:1] and read(tmp_path / "styles.csv.bak") == STYLES
    assert sorted(file.name for file in tmp_path.iterdir()) == ["styles.csv", "styles.csv.bak"]


def test_a_write_that_fails_at_any_moment_leaves_the_styles_there(tmp_path, monkeypatch):
    write(tmp_path / "styles.csv", STYLES)

    def full(self, target):
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="full"):
        write(tmp_path / "styles.csv", STYLES[:1])
    assert read(tmp_path / "styles.csv") == STYLES


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
def test_any_encoding_is_read(tmp_path, encoding):
    text = "name,prompt,negative_prompt\nÄ,café {prompt},böse\n"
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    (tmp_path / "styles.csv").write_bytes(mark + text.encode(encoding))
    assert read(tmp_path / "styles.csv") == (Style("Ä", "café {prompt}", "böse"),)


def test_the_older_columns_are_read(tmp_path):
    (tmp_path / "styles.csv").write_text("name,text\nold,an old prompt\n,nameless\nold,newer\n")
    assert read(tmp_path / "styles.csv") == (Style("old", "newer"),)


@pytest.mark.parametrize(("raw", "match"), [
    (b"a,b\n1,2\n", "no column called name"), (b"\x89PNG\r\n\x1a\n\0\0,\n1,2", "no column called name"),
    (b"name,prompt\nx," + b"y" * 200_000, "no table")])
def test_a_file_that_is_no_styles_is_refused_in_words(tmp_path, raw, match):
    (tmp_path / "styles.csv").write_bytes(raw)
    with pytest.raises(StudioError, match=match):
        read(tmp_path / "styles.csv")


@pytest.mark.parametrize("raw", [b"", b"name,prompt", b"\0\0\0", b"name,prompt\nx\ny,1,2,3,4\n"])
def test_short_and_ragged_files_are_read_as_far_as_they_go(tmp_path, raw):
    (tmp_path / "styles.csv").write_bytes(raw)
    assert all(style.name in "xy" for style in read(tmp_path / "styles.csv"))


def test_no_file_is_no_styles(tmp_path):
    assert read(tmp_path / "none.csv") == ()


def test_styles_go_around_or_behind_what_was_typed():
    around, behind = Style("1", "a photo of {prompt}, sharp", "blurry"), Style("2", "50mm")
    assert apply("a cat", "", (around, behind)) == ("a photo of a cat, sharp, 50mm", "blurry")
    assert apply(" a cat ", "x", (Style("empty"),)) == (" a cat ", "x")
    assert apply("", "bad", (Style("3", "y", "worse, {prompt}"),)) == ("y", "worse, bad")


def test_a_file_that_was_edited_by_hand_is_read_again(tmp_path):
    styles = Styles(tmp_path / "styles.csv")
    assert styles.all() == ()
    styles.save(*STYLES)
    (tmp_path / "styles.csv").write_text("name,prompt\nnew,by hand\n")
    assert styles.all() == (Style("new", "by hand"),)
    styles.save(Style("new", "again"), Style("other"))
    assert styles.all() == (Style("new", "again"), Style("other"))
    styles.delete("new")
    assert Styles(tmp_path / "styles.csv").all() == (Style("other"),)


def test_an_unknown_style_and_a_nameless_one_are_refused_by_name(tmp_path):
    styles = Styles(tmp_path / "styles.csv")
    styles.save(*STYLES)
    assert styles.named(["empty", "Ölbild"]) == (STYLES[2], STYLES[0])
    with pytest.raises(RequestError, match="none called 'oil'"):
        styles.named(["oil"])
    for name in (" ", "x" * (MAX_NAME + 1)):
        with pytest.raises(StudioError, match="Name: a style needs one"):
            styles.save(Style(name, "a"))
    assert styles.all() == STYLES
