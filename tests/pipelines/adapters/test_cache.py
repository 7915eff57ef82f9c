"""LoRAs that were read once are kept, until their file or the model is another one."""

from __future__ import annotations

import os

import pytest
import torch

from pipelines.adapters import cache
from pipelines.adapters.cache import KEPT, Shelf
from pipelines.errors import ModelError
from pipelines.families import FAMILIES
from pipelines.library import Library, places
from pipelines.prompts.lora_tags import Use
from pipelines.settings import Settings
from tests.pipelines.adapters.made import pipe_of, weights

SD = FAMILIES["sd15"]
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.fixture(scope="module")
def pipe(sd_folder):
    return pipe_of(sd_folder)


@pytest.fixture
def shelf(tmp_path):
    settings = Settings(data_dir=tmp_path / "data", model_dir=())
    library = Library(settings.data_dir, lambda: places(settings))

    def entries(names):
        library.refresh()
        assert library.wait(60)
        return library.entries(kind="lora")
    yield Shelf(entries)
    library.close()


@pytest.fixture
def write(tmp_path, pipe):
    from safetensors.torch import save_file

    def write(name: str, value: float = 1.0):
        rows, columns = weights(pipe)[f"unet.{LAYER}"].shape
        path = tmp_path / "data" / "loras" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        layer = "lora_unet_" + LAYER.replace(".", "_")
        save_file({f"{layer}.lora_down.weight": torch.full((1, columns), value),
                   f"{layer}.lora_up.weight": torch.ones(rows, 1), f"{layer}.alpha": torch.tensor(1.0)}, path)
        return path
    return write


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read, one by one."""
    names, read = [], cache.read

    def noted(path, *arguments):
        names.append(path.stem)
        return read(path, *arguments)
    monkeypatch.setattr(cache, "read", noted)
    return names


def change(shelf, pipe, *names):
    """What the merged LoRAs add to one number of the weights."""
    weight = pipe.unet.get_submodule(LAYER).weight
    before = weight[0, 0].item()
    with shelf.attached(pipe, SD, [Use(name) for name in names], merge=True) as lines:
        during = weight[0, 0].item()
    assert weight[0, 0].item() == before
    return during - before, lines


def test_a_file_is_read_once_and_again_when_it_has_changed(shelf, pipe, write, reads):
    path = write("ink")
    for _ in range(2):
        assert change(shelf, pipe, "ink")[0] == pytest.approx(1, abs=1e-5)
    assert reads == ["ink"]
    write("ink", 3.0)
    os.utime(path, (1, 1))
    assert change(shelf, pipe, "ink")[0] == pytest.approx(3, abs=1e-5)
    assert reads == ["ink", "ink"]


def test_another_model_reads_it_anew(shelf, pipe, sd_folder, write, reads):
    write("ink")
    change(shelf, pipe, "ink")
    change(shelf, pipe_of(sd_folder), "ink")
    assert reads == ["ink", "ink"]


def test_the_one_that_was_not_used_for_longest_is_forgotten(shelf, pipe, write, reads):
    names = [f"l{number}" for number in range(KEPT + 1)]
    for name in names:
        write(name)
    change(shelf, pipe, *names[:KEPT])
    change(shelf, pipe, names[0])  # now the second is the oldest
    change(shelf, pipe, names[KEPT])
    reads.clear()
    change(shelf, pipe, names[0])
    change(shelf, pipe, names[1])
    assert reads == [names[1]]


def test_an_unknown_one_is_said_and_left_out_and_a_damaged_one_refused(shelf, pipe, write):
    path = write("ink")
    added, lines = change(shelf, pipe, "ink", "nowhere")
    assert added == pytest.approx(1, abs=1e-5)
    assert any("nowhere" in line and line.endswith("It was left out.") for line in lines)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ModelError, match="ink"):
        change(shelf, pipe, "ink")
