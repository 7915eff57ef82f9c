"""What is cleared at the start, and above all what is not."""

from __future__ import annotations

import os
from time import time

import pytest
from PIL import Image

from pipelines.history import cleanup
from pipelines.history.cleanup import DAY_S, FORGOTTEN_S
from pipelines.history.store import Made, Results
from pipelines.images.store import ImageStore


@pytest.fixture(autouse=True)
def written_long_ago(monkeypatch):
    """Let a file's age be what `aged` says: the time at which it was put here cannot be set."""
    plain = cleanup.Path.lstat
    monkeypatch.setattr(cleanup.Path, "lstat", lambda path: os.stat_result(
        [*plain(path)[:9], plain(path).st_mtime]))


def aged(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(b"x")
    os.utime(path, (time() - seconds,) * 2)
    return path


def clear(folder):
    return cleanup.clear(folder, Results(folder / "outputs").infotexts)


def upload(folder, colour, seconds):
    return aged(ImageStore(folder / "inputs").add(Image.new("RGB", (64, 64), colour)).path, seconds)


@pytest.mark.parametrize("place", ["inputs/.adding-x1", "outputs/2026-01-01/.ab12.part", "loras/.ink.7.new",
                                   "runs/ink/checkpoints/.step-5.7.new", "cache/ab12/image.png"])
def test_what_a_killed_studio_left_goes_after_a_day(tmp_path, place):
    aged(tmp_path / place, DAY_S - 60)
    assert clear(tmp_path) == 0 and (tmp_path / place).exists()
    aged(tmp_path / place, DAY_S + 60)
    assert clear(tmp_path) == 1 and not (tmp_path / place).exists()


def test_half_made_folders_go_whole_and_the_cache_keeps_no_empty_ones(tmp_path):
    for folder in (tmp_path / "datasets" / ".adding-x" / "pictures", tmp_path / "cache" / "ab12"):
        aged(folder / "1.png", 2 * DAY_S)
    aged(tmp_path / "datasets" / ".adding-x", 2 * DAY_S)
    assert clear(tmp_path) == 2
    assert not list((tmp_path / "datasets").iterdir()) and not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("place", ["outputs/2026-01-01/00001-5.png", "datasets/cats/1.png", "loras/ink.safetensors",
                                   "models/big.safetensors.part", "runs/ink/config.toml", "styles.csv", "config.toml",
                                   "inputs/of-mine.png", "lab/film.gif", "wildcards/animal.txt"])
def test_what_people_keep_stays_however_old_it_is(tmp_path, place):
    aged(tmp_path / place, 10 * FORGOTTEN_S)
    assert clear(tmp_path) == 0 and (tmp_path / place).exists()


def test_an_upload_goes_when_nobody_used_it_for_months(tmp_path):
    old, new = upload(tmp_path, "red", FORGOTTEN_S + 60), upload(tmp_path, "blue", FORGOTTEN_S - 60)
    assert clear(tmp_path) == 1
    assert not old.exists() and new.exists()


@pytest.mark.parametrize("use", [lambda store, id: store.open(id), lambda store, id: store.get(id),
                                 lambda store, id: store.add(Image.new("RGB", (64, 64), "red"))])
def test_an_upload_that_is_used_counts_as_new(tmp_path, use):
    old = upload(tmp_path, "red", FORGOTTEN_S + 60)
    use(ImageStore(tmp_path / "inputs"), old.stem)
    assert clear(tmp_path) == 0 and old.exists()


def test_an_upload_of_which_a_kept_picture_was_made_stays_as_long_as_that(tmp_path):
    source, mask = upload(tmp_path, "red", 9 * FORGOTTEN_S), upload(tmp_path, "white", 9 * FORGOTTEN_S)
    results = Results(tmp_path / "outputs")
    text = f"a cat\nSteps: 2, Image hash: {source.stem[:12]}, Mask hash: {mask.stem[:12]}, Version: Atelier"
    (saved,) = results.save(Made(Image.new("RGB", (64, 64)), text, 5, "inpaint", 1.0, "me"))
    assert clear(tmp_path) == 0 and source.exists() and mask.exists()
    results.delete(saved.record.id, "me")
    assert clear(tmp_path) == 2
