"""Checkpoints that are damaged, or bring code or links with them: named as faults, and never executed."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest

from pipelines.errors import ModelError
from pipelines.library.checkpoints import EMBEDDED_NAME
from tests.pipelines.library.files import TEXT, UNET, VAE, single_file, write_file


def damaged(path: Path, header: bytes, length: int | None = None, data: bytes = b"") -> None:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)


@pytest.mark.parametrize(("write", "words"), [
    (lambda path: path.write_bytes(b""), "does not begin"),
    (lambda path: path.write_bytes(b"x" * 5000), "does not begin"),
    (lambda path: damaged(path, b"{}", length=2**60), "does not begin"),
    (lambda path: damaged(path, b"[" * 100_000), "not readable"),
    (lambda path: damaged(path, b"[]"), "not a table"),
    (lambda path: damaged(path, b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}'), "cut short"),
    (lambda path: damaged(path, b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}'), "16 bytes.*takes 8"),
    (lambda path: damaged(path, b'{"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 8]}}'), "damaged"),
    (lambda path: damaged(path, b'{"a": {"dtype": "F32", "shape": [' + b"9," * 9000 + b'9], "data_offsets": [0, 8]}}'),
     "damaged"),
    (lambda path: damaged(path, b'{"a": 3}'), "damaged"),
    (lambda path: damaged(path, b'{"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, '
                                b'"b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]}}', data=b"123456"),
     "same bytes"),
    (lambda path: write_file(path, {UNET + "x.weight": (4, 4)}), "not supported.*1 tensors under model"),
    (lambda path: write_file(path, {k: v for k, v in single_file(768).items() if VAE not in k}), "no autoencoder"),
    (lambda path: write_file(path, {k: v for k, v in single_file(768).items() if TEXT not in k}), "no text encoder"),
])
def test_a_damaged_or_partial_file_is_a_fault_and_no_obstacle(search, models, write, words):
    write(models / "broken.safetensors")
    cards, (fault,) = search()
    assert [card.name for card in cards] == [EMBEDDED_NAME]
    with pytest.raises(ModelError, match=words):
        raise fault
    assert str(models) not in str(fault)


class Trap:
    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_pickle_is_refused_and_never_opened(search, models, sd_folder, tmp_path):
    mark = tmp_path / "executed"
    (models / "evil.ckpt").write_bytes(pickle.dumps(Trap(mark)))
    shutil.copytree(sd_folder, models / "folder", ignore=shutil.ignore_patterns("*.safetensors"))
    (models / "folder" / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Trap(mark)))
    _, faults = search()
    assert len(faults) == 2
    assert all("Only .safetensors" in str(fault) for fault in faults)
    with pytest.raises(ModelError, match="evil.ckpt.*pickle"):
        search(model=str(models / "evil.ckpt"))
    assert not mark.exists()


@pytest.mark.parametrize("entry", [["evil", "Unet"], ["diffusers.evil", "Unet"], ["os", "system"], "evil", None,
                                   ["diffusers", "a.b"], ["diffusers", ["x"]]])
def test_code_that_a_folder_brings_is_never_imported(search, models, sd_folder, tmp_path, entry):
    folder = shutil.copytree(sd_folder, models / "evil model")
    for place in (folder, folder / "unet"):
        (place / "evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "unet": entry}))
    cards, (fault,) = search()
    assert len(cards) == 1
    assert "evil model cannot be used: its unet is" in str(fault)
    assert not (tmp_path / "executed").exists()


def test_a_custom_pipeline_is_refused(search, models, sd_folder):
    folder = shutil.copytree(sd_folder, models / "custom")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": ["pipeline", "Mine"]}))
    assert "not supported" in str(search()[1][0])


def test_links_out_of_the_model_folder_are_left_out(search, models, tmp_path, sd_folder):
    outside = write_file(tmp_path / "secret.safetensors", single_file(768))
    (models / "link.safetensors").symlink_to(outside)
    (models / "link folder").symlink_to(sd_folder)
    folder = shutil.copytree(sd_folder, models / "half")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    weights.symlink_to(sd_folder / "unet" / weights.name)
    (models / "inside.safetensors").symlink_to(write_file(models / "deep" / "real.safetensors", single_file(768)))
    cards, faults = search()
    assert {card.name for card in cards[1:]} == {"real", "inside"}
    assert not faults
