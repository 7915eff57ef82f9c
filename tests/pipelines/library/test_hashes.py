"""A model file is read once for its hashes, whoever asks and however many ask at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from pipelines.library.hashes import FileHashes, Hashes, old_hash, read
from pipelines.library.store import FILE_NAME, Store

BODY = b"weights " * 1000


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "one.safetensors"
    path.write_bytes((2).to_bytes(8, "little") + b"{}" + BODY)
    return path


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


def test_both_hashes_are_those_of_the_file_and_of_what_follows_its_header(file, tmp_path):
    found = read(file)
    assert found == FileHashes(sha256(file.read_bytes()).hexdigest(), sha256(BODY).hexdigest())
    assert (found.auto_v2, found.auto_v3) == (found.whole[:10], found.body[:12])
    pickle = tmp_path / "one.ckpt"
    pickle.write_bytes(BODY)
    assert read(pickle) == FileHashes(sha256(BODY).hexdigest(), "")


def test_an_unchanged_file_is_never_read_again_by_any_other_reader(file, data_dir):
    first = Hashes(data_dir).of(file)
    facts = file.stat()
    file.write_bytes(b"y" * facts.st_size)  # another content under the same size and time: only what is kept can know
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert Hashes(data_dir).of(file) == first
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1_000_000_000))
    assert Hashes(data_dir).of(file) == read(file) != first


def test_several_who_ask_at_once_wait_for_one_that_reads(file, data_dir):
    reads = []

    def ask(_):
        return Hashes(data_dir).of(file, stopped=lambda: bool(reads.append(1)))  # asked once a chunk: header and body

    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(ask, range(4)))
    assert found == {read(file)} and len(reads) == 2


def test_a_damaged_store_is_made_anew(file, data_dir):
    data_dir.mkdir()
    (data_dir / FILE_NAME).write_bytes(b"no database" * 100)
    assert Hashes(data_dir).of(file) == read(file) == Hashes(data_dir).of(file)


def test_a_reading_that_is_stopped_keeps_nothing(file, data_dir):
    with pytest.raises(InterruptedError):
        Hashes(data_dir).of(file, stopped=lambda: True)
    assert Hashes(data_dir).of(file) == read(file)


def test_a_file_that_is_known_by_its_stamp_need_not_be_here(file, data_dir):
    facts = file.stat()
    first = Hashes(data_dir).of(file)
    file.unlink()
    assert Hashes(data_dir).of(file, stamp=f"{facts.st_size} {facts.st_mtime!r}") == first
    with pytest.raises(OSError):
        Hashes(data_dir).of(file)


def test_another_file_under_the_stamp_that_was_found_is_not_kept(file, data_dir):
    assert Hashes(data_dir).of(file, stamp="1 2.0") == read(file)
    assert Store(data_dir / FILE_NAME).hashes() == {}


def test_the_digits_of_old_versions_are_of_one_part(tmp_path):
    path = tmp_path / "old.ckpt"
    path.write_bytes(bytes(0x100000) + BODY)
    assert old_hash(path) == sha256(BODY).hexdigest()[:8]
    path.write_bytes(BODY)
    assert old_hash(path) == old_hash(tmp_path / "none") == ""
