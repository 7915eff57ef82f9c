"""What the Models tab says of files and of downloads, and what it writes into prompts."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from pipelines.downloads import Checking, Downloaded, DownloadFailed, Downloading, Paused, Stopped
from pipelines.errors import ModelError
from pipelines.library import Library
from pipelines.library.folders import Place
from pipelines.library.preview import preview
from tests.pipelines.library.files import embedding, lora, vae
from ui.forms.controls import with_entry
from ui.tabs.models import starters
from ui.tabs.models.fetch import possible, told
from ui.tabs.models.words import COLUMNS, Pictures, facts, row, size


@pytest.fixture
def entries(tmp_path):
    root = tmp_path / "models"
    lora(root / "loras" / "ink.safetensors", rank=8, metadata={"ss_output_name": "inkdrawings"})
    (root / "loras" / "ink.json").write_text('{"activation text": "ink drawing", "preferred weight": 0.7}')
    Image.new("RGB", (1000, 500), "teal").save(root / "loras" / "ink.preview.png")
    embedding(root / "embeddings" / "EasyNegative.safetensors")
    vae(root / "clear.safetensors")
    (root / "old.ckpt").write_bytes(b"a pickle")
    library = Library(tmp_path / "data", lambda: (Place(root, root),))
    library.refresh()
    assert library.wait(60)
    yield {entry.name: entry for entry in library.entries()}
    library.close()


def test_a_lora_and_an_embedding_are_written_into_a_prompt_once(entries):
    ink, negative = entries["ink"], entries["EasyNegative"]
    prompt = with_entry("a cat", ink)
    assert prompt == "a cat, ink drawing <lora:ink:0.7>"
    assert with_entry(prompt, ink) == prompt
    assert with_entry("", ink) == "ink drawing <lora:ink:0.7>"
    assert with_entry("a cat # <lora:ink:1>", ink) == "a cat # <lora:ink:1>\nink drawing <lora:ink:0.7>"
    assert with_entry("a cat", negative) == "a cat, EasyNegative" == with_entry("a cat, EasyNegative", negative)


def test_facts_and_lines_say_what_a_file_is_and_never_where_the_disk_has_it(entries, tmp_path):
    told_of_ink = facts(entries["ink"])
    for words in ("Kind: LoRA", "Family: Stable Diffusion 1.x", "Folder: loras", "Rank: 8", "Also called: inkdrawings",
                  "Strength: 0.7"):
        assert words in told_of_ink.splitlines()
    for entry in entries.values():
        assert len(row(entry)) == len(COLUMNS)
        assert str(tmp_path) not in facts(entry) + "".join(row(entry)) + entry.fault
    assert row(entries["old"])[2] == "cannot be used"


def test_a_preview_is_drawn_anew_and_small_and_what_is_none_gets_a_tile(entries, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    pictures = Pictures()
    shown = pictures.path(entries["ink"])
    assert Path(shown).is_relative_to(tmp_path / "cache") and Image.open(shown).size == (384, 192)
    assert pictures.path(entries["ink"]) == shown
    entries["ink"].preview.write_bytes(b"<svg onload=alert(1)>")
    assert preview(entries["ink"].preview) is None
    assert Image.open(pictures.path(entries["ink"])).size == (256, 256)
    Path(shown).unlink()
    assert len({pictures.path(entry) for entry in entries.values()}) == len(entries)


@pytest.mark.parametrize(("state", "words"), [
    (Downloading("m", 250_000_000, 1_000_000_000, 5e6, 150), "m: 25% of 1.0 GB, 5.0 MB/s, 2 min 30 s left"),
    (Downloading("m", 2_000_000), "m: 2.0 MB"), (Checking("m"), "m: comparing hashes"),
    (Paused("m", 5, 10_000), "m: paused at 0% of 10 kB"), (Stopped("m"), "m: given up"),
    (Downloaded("m", "lora", "ink"), "m: done. It is the LoRA ink"),
    (DownloadFailed("m", ModelError("Download: nobody answers."), True), "m: nobody answers. Go on tries again.")])
def test_a_download_is_told_in_one_line(state, words):
    assert told(state) == words


@pytest.mark.parametrize(("state", "wanted"), [
    (Downloading("m", 1, 2), ("pause", "stop")), (Paused("m", 1, 2), ("resume", "stop")),
    (DownloadFailed("m", ModelError("x"), True), ("resume", "stop")), (DownloadFailed("m", ModelError("x"), False), ()),
    (Checking("m"), ()), (Downloaded("m", "lora", "ink"), ()), (Stopped("m"), ())])
def test_only_what_a_download_can_do_is_offered(state, wanted):
    assert possible(state) == wanted


@pytest.mark.parametrize(("count", "words"), [(1, "1 kB"), (144_300_000, "144 MB"), (2_132_625_432, "2.1 GB")])
def test_sizes_are_told_as_people_say_them(count, words):
    assert size(count) == words


def test_models_to_begin_with_are_not_offered_where_nothing_may_be_fetched():
    with gr.Blocks():
        made = starters.build()
        starters.wire(None, None, made, may_fetch=False)
    assert made.body.visible is False and made.body.open is False
