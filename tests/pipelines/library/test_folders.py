"""Models are found where other programs keep them, and nothing else of theirs is looked at or changed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.pipelines.library.files import checkpoint, embedding, lora, vae


def everything_below(root: Path) -> list[tuple[str, int, int]]:
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(root.rglob("*"))]


def test_the_layout_of_automatic1111_and_forge_is_known(look, root):
    checkpoint(root / "models" / "Stable-diffusion" / "realism.safetensors")
    lora(root / "models" / "Lora" / "people" / "style.safetensors")
    vae(root / "models" / "VAE" / "clear.safetensors")
    embedding(root / "embeddings" / "bad hands.safetensors")
    lora(root / "outputs" / "not a model folder.safetensors")
    lora(root / "venv" / "lib" / "test.safetensors")
    before = everything_below(root)
    assert set(look()) == {("checkpoint", "realism"), ("lora", "style"), ("vae", "clear"), ("embedding", "bad hands")}
    assert everything_below(root) == before


def test_the_layout_of_comfyui_and_its_extra_paths_are_known(look, root, tmp_path):
    checkpoint(root / "models" / "checkpoints" / "xl.safetensors", 2048)
    lora(tmp_path / "other" / "models" / "Lora" / "one.safetensors")
    lora(tmp_path / "other" / "models" / "LyCORIS" / "two.safetensors")
    vae(tmp_path / "third" / "three.safetensors")
    (root / "extra_model_paths.yaml").write_text(
        f"a111:\n    base_path: {tmp_path}/other\n    loras: |\n        models/Lora\n        models/LyCORIS\n"
        f"    vae: {tmp_path}/third\n    checkpoints: not/there\n    upscale_models: models\nempty:\n")
    assert set(look()) == {("checkpoint", "xl"), ("lora", "one"), ("lora", "two"), ("vae", "three")}


def test_a_folder_may_hold_nothing_but_extra_paths_relative_to_it(look, root):
    lora(root.parent / "beside" / "one.safetensors")
    (root / "extra_model_paths.yaml").write_text("mine:\n    loras: ../beside\n")
    assert set(look()) == {("lora", "one")}


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "a: {loras: [1]}", "a: {loras: 3, base_path: 4}",
                                  "a: &x [1]\nb: *x", "!!python/object/apply:os.system ['touch executed']"])
def test_damaged_extra_paths_are_no_obstacle(look, root, text):
    (root / "extra_model_paths.yaml").write_text(text)
    checkpoint(root / "models" / "checkpoints" / "xl.safetensors", 2048)
    assert set(look()) == {("checkpoint", "xl")}
    assert not Path("executed").exists()


def test_invokeais_models_have_the_names_that_its_database_gives(look, root, tmp_path):
    checkpoint(root / "models" / "0f3b" / "file.safetensors")
    lora(tmp_path / "in place" / "x.safetensors")
    vae(root / "models" / "unlisted.safetensors")
    (root / "databases").mkdir()
    rows = [{"path": "0f3b/file.safetensors", "name": "Realism", "type": "main"},
            {"path": str(tmp_path / "in place" / "x.safetensors"), "name": "My style", "type": "lora"},
            {"path": "gone", "name": "Gone"}, {"name": "no path"}, ["no table"]]
    with sqlite3.connect(root / "databases" / "invokeai.db") as database:
        database.execute("CREATE TABLE models (id TEXT PRIMARY KEY, config TEXT)")
        database.executemany("INSERT INTO models VALUES (?, ?)",
                             [(str(i), json.dumps(row)) for i, row in enumerate(rows)])
    database.close()
    assert set(look()) == {("checkpoint", "Realism"), ("lora", "My style"), ("vae", "unlisted")}


def test_a_damaged_invokeai_database_is_no_obstacle(look, root):
    (root / "invokeai.yaml").write_text("schema_version: 4.0.2")
    lora(root / "models" / "x.safetensors")
    (root / "databases").mkdir()
    (root / "databases" / "invokeai.db").write_bytes(b"no database" * 100)
    assert set(look()) == {("lora", "x")}


def hub_copy(cache: Path, repository: str, revision: str, files: dict[str, Path], main: bool = True) -> Path:
    """Lay files out as the hub's client does: links into blobs."""
    base = cache / f"models--{repository.replace('/', '--')}"
    snapshot = base / "snapshots" / revision
    for i, (name, source) in enumerate(files.items()):
        blob = base / "blobs" / f"{revision}{i}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, blob)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    (base / "refs").mkdir(exist_ok=True)
    if main:
        (base / "refs" / "main").write_text(revision)
    return snapshot


@pytest.mark.parametrize("given", [True, False])
def test_the_hubs_cache_is_read_by_itself_and_as_a_model_folder(look, root, tmp_path, sd_folder, given):
    cache = root if given else tmp_path / "hub"
    parts = {str(path.relative_to(sd_folder)): path for path in sd_folder.rglob("*") if path.is_file()}
    hub_copy(cache, "someone/painter", "abc", parts)
    hub_copy(cache, "someone/half-here", "abc", {name: path for name, path in parts.items() if "unet" not in name})
    one, two = lora(tmp_path / "1.safetensors"), vae(tmp_path / "2.safetensors")
    hub_copy(cache, "someone/style", "new", {"pytorch_lora_weights.safetensors": one, "other.safetensors": one})
    hub_copy(cache, "someone/style", "old", {"left.safetensors": one}, main=False)
    hub_copy(cache, "someone/clear", "abc", {"diffusion_pytorch_model.safetensors": two})
    found = look({} if given else {"HF_HUB_CACHE": str(cache)})
    assert set(found) == {("checkpoint", "someone/painter"), ("lora", "someone/style"), ("lora", "other"),
                          ("vae", "someone/clear")}
    assert found["checkpoint", "someone/painter"].finding.card["kind"] == "hub"


def test_a_link_out_of_a_place_is_left_out(look, root, tmp_path):
    secret = lora(tmp_path / "secret.safetensors")
    (root / "link.safetensors").symlink_to(secret)
    lora(root / "mine.safetensors")
    (tmp_path / "secret.png").write_bytes(b"x")
    (root / "mine.png").symlink_to(tmp_path / "secret.png")
    found = look()
    assert set(found) == {("lora", "mine")}
    assert found["lora", "mine"].item.preview is None
