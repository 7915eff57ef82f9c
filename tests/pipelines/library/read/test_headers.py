"""A crafted header gives a plain sentence, quickly and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import ModelError
from pipelines.library.read.headers import read_header


def write(path: Path, header: bytes, data: bytes = b"", length: int | None = None) -> Path:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)
    return path


def entry(dtype: str = "F32", shape: tuple[int, ...] = (4,), offsets: tuple[int, int] = (0, 16)) -> bytes:
    return json.dumps({"dtype": dtype, "shape": shape, "data_offsets": offsets}).encode()


@pytest.mark.parametrize(("header", "data", "words"), [
    (b'{"a": ' + entry(dtype="F99") + b"}", b"x" * 16, "a is stored as F99, which is no number format"),
    (b'{"a": ' + entry(dtype="F16") + b"}", b"x" * 16, "a says 8 bytes and takes 16"),
    (b'{"a": ' + entry(shape=(2**60, 2**60)) + b"}", b"x" * 16, "a says .* bytes and takes 16"),
    (b'{"a": ' + entry(offsets=(16, 0)) + b"}", b"x" * 16, "a says 16 bytes and takes -16"),
    (b'{"a": ' + entry(offsets=(2**62, 2**62 + 16)) + b"}", b"x" * 16, "cut short"),
    (b'{"a": ' + entry() + b', "a": ' + entry() + b"}", b"x" * 16, "names a twice"),
    (b'{"a": {"dtype": "F32", "dtype": "F16", "shape": [4], "data_offsets": [0, 16]}}', b"x" * 16,
     "names dtype twice"),
    (b'{"a": ' + entry() + b"}", b"x" * 20, "goes on after its last tensor: .* bytes instead of"),
    (b'{"a": ' + entry() + b', "b": ' + entry(offsets=(8, 24)) + b"}", b"x" * 24, "two of its tensors lie on the same"),
])
def test_a_crafted_header_is_refused_by_what_is_wrong(tmp_path, header, data, words):
    with pytest.raises(ModelError, match=f"^x.safetensors cannot be used: .*{words}"):
        read_header(write(tmp_path / "x.safetensors", header, data))


HUGE = {
    "metadata of 100 MB": lambda: b'{"__metadata__": {"a": "' + b"x" * 100_000_000 + b'"}}',
    "two million names": lambda: b"{" + b",".join(b'"%d":{}' % i for i in range(2_000_000)) + b"}",
    "lists in lists": lambda: b"[[]," * 3_900_000,
    "a long shape": lambda: b'{"a": {"shape": [' + b"1.5," * 3_900_000 + b"1]}}",
    "one name again and again": lambda: b"{" + b",".join([b'"a":1'] * 200_000) + b"}",
    "a late second": lambda: b"{" + b",".join(b'"%d":1' % i for i in range(200_000)) + b',"199999":1}',
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_header_costs_neither_time_nor_memory(tmp_path, name):
    path = write(tmp_path / "x.safetensors", HUGE[name]())
    code = ("import resource, sys; from pathlib import Path; from pipelines.errors import ModelError\n"
            "from pipelines.library.read.headers import read_header\n"
            "before = resource.getrusage(resource.RUSAGE_SELF)\n"
            "try: read_header(Path(sys.argv[1]))\n"
            "except ModelError as error: print(error)\n"
            "after = resource.getrusage(resource.RUSAGE_SELF)\n"
            "print((after.ru_maxrss - before.ru_maxrss) / 1024, after.ru_utime - before.ru_utime)\n")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60)
    said, numbers = done.stdout.strip().splitlines()
    mebibytes, seconds = map(float, numbers.split())
    assert said.startswith("x.safetensors cannot be used: its header")
    assert mebibytes < 100
    assert seconds < 1


def test_a_length_beyond_the_file_is_refused_at_once(tmp_path):
    path = write(tmp_path / "x.safetensors", b"{}", length=2**63)
    begin = time.thread_time()
    with pytest.raises(ModelError, match="does not begin with a safetensors header"):
        read_header(path)
    assert time.thread_time() - begin < 1


@pytest.mark.parametrize("at", range(0, 100, 5))
def test_a_file_cut_anywhere_is_refused(tmp_path, at):
    from safetensors.numpy import save

    whole = save({"a": np.ones((8, 8), np.float32), "b": np.ones(16, np.float16)}, {"note": "x" * 100})
    path = tmp_path / "x.safetensors"
    path.write_bytes(whole)
    assert read_header(path).shapes == {"a": (8, 8), "b": (16,)}
    path.write_bytes(whole[:len(whole) * at // 100])
    words = "it is cut short: .* bytes of at least" if at else "it does not begin with a safetensors header"
    with pytest.raises(ModelError, match=f"x.safetensors cannot be used: {words}"):
        read_header(path)
