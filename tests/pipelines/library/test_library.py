"""The library remembers, notices what changed, searches, hashes in the background, and is quick with many files."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from pipelines.errors import ModelError
from pipelines.library.checkpoints import find
from pipelines.library.hashes import read
from pipelines.library.store import FILE_NAME
from tests.effort import LITTLE, effort
from tests.pipelines.library.files import checkpoint, embedding, lora, vae
from tests.tiny_families import write_tiny


def refreshed(library):
    library.refresh()
    assert library.wait(60)
    return library.entries()


def test_what_was_found_is_listed_chosen_and_looked_up(library, root):
    checkpoint(root / "realism.safetensors")
    lora(root / "Lora" / "Style.safetensors", metadata={"modelspec.trigger_phrase": "oil painting"})
    lora(root / "Lora" / "xl.safetensors", 2048)
    embedding(root / "bad hands.safetensors")
    assert library.entries() == ()
    assert len(refreshed(library)) == 4
    assert {entry.name for entry in library.entries(kind="lora")} == {"Style", "xl"}
    assert {entry.name for entry in library.entries(family="sdxl")} == {"xl"}
    assert [entry.name for entry in library.entries("OIL style")] == ["Style"]
    assert [entry.name for entry in library.entries("stable xl")] == ["xl"]
    assert library.entries("oil nothing") == ()
    style = library.get("lora", "STYLE")
    assert (style.name, style.folder, style.family_label) == ("Style", "Lora", "Stable Diffusion 1.x")
    assert library.by_id(style.id) is style
    assert library.by_id("../etc") is None
    assert library.entries(kind="checkpoint")[0].card.family == "sd15"


@pytest.mark.parametrize("name", ["../Style", "Stil", "C:\\Style", "Style\0", "", "x" * 5000])
def test_a_name_is_looked_up_and_never_a_path(library, root, name):
    lora(root / "Style.safetensors")
    refreshed(library)
    with pytest.raises(ModelError, match="^LoRA: .* is not here. The nearest is 'Style'.$") as caught:
        library.get("lora", name)
    assert len(str(caught.value)) < 120


def test_unchanged_files_are_not_opened_again(library, root):
    path = lora(root / "a.safetensors")
    first = refreshed(library)
    facts = path.stat()
    path.write_bytes(b"x" * facts.st_size)  # only a memory can still know what this was
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert refreshed(library) == first
    os.utime(path, ns=(1, 1))
    assert "does not begin with a safetensors header" in refreshed(library)[0].fault


def test_new_deleted_and_replaced_files_and_new_notes_are_noticed(library, root):
    lora(root / "a.safetensors")
    lora(root / "b.safetensors")
    assert {entry.name for entry in refreshed(library)} == {"a", "b"}
    (root / "a.safetensors").unlink()
    vae(root / "b.safetensors")
    embedding(root / "c.safetensors")
    (root / "c.json").write_text('{"notes": "new"}')
    assert {(entry.kind, entry.name, entry.notes) for entry in refreshed(library)} == {
        ("vae", "b", ""), ("embedding", "c", "new")}
    (root / "c.json").write_text('{"notes": "newer"}')
    assert library.get("embedding", "c").notes == "new"
    refreshed(library)
    assert library.get("embedding", "c").notes == "newer"


def test_two_of_one_name_stay_apart(library, root):
    for place in ("a", "b"):
        lora(root / place / "same.safetensors")
    assert [entry.name for entry in refreshed(library)] == ["same", "b/same.safetensors"]


def test_a_damaged_or_read_only_memory_costs_time_alone(library, root, settings):
    lora(root / "a.safetensors")
    settings.data_dir.mkdir()
    (settings.data_dir / FILE_NAME).write_bytes(b"no database at all" * 1000)
    assert len(refreshed(library)) == 1
    (settings.data_dir / FILE_NAME).unlink()
    (settings.data_dir / FILE_NAME).mkdir()
    assert len(refreshed(library)) == 1


def test_hashes_are_those_that_civitai_uses_and_are_kept(library, root, settings):
    path = lora(root / "a.safetensors")
    data = path.read_bytes()
    body = data[8 + int.from_bytes(data[:8], "little"):]
    (entry,) = refreshed(library)
    assert (entry.auto_v2, entry.auto_v3) == ("", "")
    library.want_hashes([entry])
    library.want_hashes([entry])
    assert library.wait(60)
    (entry,) = library.entries()
    wanted = hashlib.sha256(data).hexdigest()[:10], hashlib.sha256(body).hexdigest()[:12]
    assert (entry.auto_v2, entry.auto_v3) == wanted
    (again,) = refreshed(library)
    assert (again.auto_v2, again.auto_v3) == wanted
    assert library.entries(wanted[0]) == (again,)
    path.write_bytes(b"another content")
    assert refreshed(library)[0].auto_v2 == ""


def test_a_hash_that_the_maker_wrote_needs_no_reading(library, root):
    lora(root / "a.safetensors", metadata={"sshs_model_hash": "AB" * 32})
    lora(root / "b.safetensors", metadata={"sshs_model_hash": "<script>" * 8})
    assert [entry.auto_v3 for entry in refreshed(library)] == ["ab" * 6, ""]


def test_a_file_that_went_away_before_its_hash_is_no_obstacle(library, root):
    gone, here = lora(root / "a.safetensors"), lora(root / "b.safetensors")
    entries = refreshed(library)
    gone.unlink()
    library.want_hashes(entries)
    assert library.wait(60)
    assert [bool(entry.auto_v2) for entry in library.entries()] == [False, True]
    assert read(here).auto_v2 == library.get("lora", "b").auto_v2


def test_the_hash_of_a_folder_is_that_of_what_denoises(library, root, sd_folder):
    shutil.copytree(sd_folder, root / "tiny")
    write_tiny("z_image", root / "other")
    entries = refreshed(library)
    library.want_hashes(entries)
    assert library.wait(60)
    for name, core in (("tiny", "unet"), ("other", "transformer")):
        weights = (root / name / core / "diffusion_pytorch_model.safetensors").read_bytes()
        assert library.get("checkpoint", name).auto_v2 == hashlib.sha256(weights).hexdigest()[:10]


def test_the_model_picker_uses_what_the_library_read(library, root, settings, sd_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no cache"))
    path = checkpoint(root / "realism.safetensors")
    lora(root / "style.safetensors")
    refreshed(library)
    facts = path.stat()
    path.write_bytes(b"x" * facts.st_size)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    cards, faults = find(settings, sd_folder)
    assert ([card.name for card in cards[1:]], faults) == (["realism"], ())
    assert cards[1] == library.get("checkpoint", "realism").card


def test_thousands_of_files_are_listed_with_little_work_after_the_first_scan(library, root, settings, tmp_path):
    whole = lora(tmp_path / "one.safetensors").read_bytes()
    for i in range(4_000):
        folder = root / "Lora" / str(i % 100)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"style {i}.safetensors").write_bytes(whole)
        if i % 10 == 0:
            (folder / f"style {i}.json").write_text('{"activation text": "word"}')
            (folder / f"style {i}.preview.png").write_bytes(b"x")
    library.refresh()
    assert library.progress.scanning
    assert library.wait(300)
    assert (library.progress.done, library.progress.scanning) == (4_000, False)
    (entries, chosen), work = effort(lambda: (refreshed(library), library.entries("style word")))
    assert (len(entries), len(chosen)) == (4_000, 400) and work < LITTLE / 2
    _, work = effort(lambda: find(settings))
    assert work < LITTLE / 2
