"""A pickle becomes safetensors in a process of its own, and what is no weights is never run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from pipelines.errors import ModelError
from pipelines.library.convert import convert


class Trap:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def loaded(path: Path):
    from safetensors.torch import load_file

    return load_file(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_weights_of_a_checkpoint_are_written_anew(tmp_path, zipped):
    import torch

    base = torch.randn(4, 6)
    state = {"model.diffusion_model.a": base, "twin": base, "turned": base.T, "row": base[1],
             "half": torch.nn.Parameter(base.half())}
    torch.save({"state_dict": {**state, "a number": 3}, "epoch": 4, "optimizer": [1, 2]}, tmp_path / "old.ckpt",
               _use_new_zipfile_serialization=zipped)
    target = convert(tmp_path / "old.ckpt")
    assert target == tmp_path / "old.safetensors"
    found = loaded(target)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.ckpt", "old.safetensors"]


def test_an_embedding_of_automatic1111_becomes_one_that_is_read(tmp_path):
    import torch

    from pipelines.library.embeddings import read

    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": torch.ones(2, 768)}, "name": "easy",
                "step": 100}, tmp_path / "easy.pt")
    assert read(convert(tmp_path / "easy.pt"))["text_encoder"].tolist() == [[1.0] * 768] * 2


def test_a_tensor_that_repeats_one_number_without_end_is_refused(tmp_path):
    import torch

    path = tmp_path / "small.ckpt"
    torch.save({"state_dict": {"a": torch.zeros(1).expand(20_000, 30_000)}}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(ModelError, match=r"^small.ckpt was not converted: its tensors say that they have 2,400,000,000 "
                                         r"bytes, and the file has \d,\d{3}"):
        convert(path)
    assert [one.name for one in tmp_path.iterdir()] == ["small.ckpt"]


def test_room_is_asked_for_the_tensors_and_not_for_the_file(tmp_path, monkeypatch):
    import shutil
    from collections import namedtuple

    import torch

    from pipelines.library import convert as converting

    path = tmp_path / "twice.ckpt"
    base = torch.zeros(1000, 1000)
    torch.save({"a": base, "b": base, "c": base}, path)
    usage = namedtuple("usage", "total used free")
    free = converting.RESERVE_BYTES + 2 * path.stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(free, 0, free))
    with pytest.raises(ModelError, match="GB of disk are needed"):
        converting.rewrite(path)


def test_a_program_in_a_pickle_is_named_and_does_not_run(tmp_path):
    import torch

    mark = tmp_path / "executed"
    torch.save({"state_dict": {"a": torch.ones(2)}, "callbacks": Trap(mark)}, tmp_path / "evil.ckpt")
    with pytest.raises(ModelError, match=r"^evil.ckpt was not converted: it holds more than weights \(\w+.mkdir\)"):
        convert(tmp_path / "evil.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["evil.ckpt"]


@pytest.mark.parametrize(("write", "words"), [
    (lambda path: path.write_bytes(b"nonsense"), "it is damaged, or no file of weights"),
    (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "there are no weights in it|it is damaged"),
    (lambda path: None, "No such file"),
    (lambda path: path.with_suffix(".safetensors").write_bytes(b"here"), "there is a x.safetensors already")])
def test_what_cannot_be_converted_says_why(tmp_path, write, words):
    write(tmp_path / "x.ckpt")
    with pytest.raises(ModelError, match=f"^x.ckpt was not converted: ({words})") as caught:
        convert(tmp_path / "x.ckpt")
    assert str(tmp_path) not in str(caught.value)
    here = tmp_path / "x.safetensors"
    assert not here.exists() or here.read_bytes() == b"here"
