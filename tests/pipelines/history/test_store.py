"""Finished pictures on disk: who may delete which."""

from __future__ import annotations

import pytest
from PIL import Image

from pipelines.errors import StudioError
from pipelines.history.store import Made, Results


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "outputs")


def saved(results, owner="ann", seed=7):
    (event,) = results.save(Made(Image.new("RGB", (8, 8)), "a cat", seed, "txt2img", 1.0, owner))
    return event.record


def test_a_deleted_picture_is_gone_from_the_disk_and_from_the_list(results):
    first, second = saved(results), saved(results, seed=8)
    results.delete(first.id, "ann")
    assert not first.path.exists() and second.path.exists()
    assert [record.id for record in results.today("ann")] == [second.id]


def test_a_number_that_is_free_again_is_listed_once(results):
    results.delete(saved(results).id, "ann")
    again = saved(results)
    assert [record.id for record in results.today("ann")] == [again.id]


def test_nobody_deletes_what_another_made(results):
    record = saved(results)
    for who in ("bob", ""):
        with pytest.raises(StudioError, match="not among yours"):
            results.delete(record.id, who)
    assert record.path.exists() and len(results.today("ann")) == 1


def test_a_picture_is_deleted_once(results):
    record = saved(results)
    results.delete(record.id, "ann")
    with pytest.raises(StudioError, match="deleted already"):
        results.delete(record.id, "ann")


def test_a_line_that_was_cut_off_hides_no_later_picture(results):
    first = saved(results)
    index = first.path.with_name("index.jsonl")
    index.write_text(index.read_text() + '\n{"file": "00002-9.png", "own')
    second = saved(results, seed=8)
    assert [record.id for record in results.today("ann")] == [second.id, first.id]
    results.delete(second.id, "ann")
    assert [record.id for record in results.today("ann")] == [first.id]


@pytest.mark.parametrize("wrong", ["", "x", "../secret.png", "2026-01-01/../../secret.png", "2026-01-01/index.jsonl",
                                   "/etc/00001-7.png", "2026-01-01/00001-7.png\n"])
def test_an_id_is_no_path(results, tmp_path, wrong):
    secret = tmp_path / "secret.png"
    secret.write_text("kept")
    saved(results)
    with pytest.raises(StudioError, match="not among yours|could not be deleted"):
        results.delete(wrong, "ann")
    assert secret.exists()


def test_what_was_begun_before_midnight_is_among_the_newest(results):
    before, today = saved(results), saved(results, seed=8)
    yesterday = before.path.parent.with_name("2020-01-02")
    older = before.path.parent.with_name("2020-01-01")
    for folder in (yesterday, older):
        folder.mkdir()
        for file in (before.path, before.path.with_name("index.jsonl")):
            (folder / file.name).write_bytes(file.read_bytes())
    assert [record.path.parent.name for record in results.newest("ann")] == [
        today.path.parent.name, today.path.parent.name, yesterday.name]
    assert results.newest("bob") == []
