"""Finding LoRA files by content and by name, with no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipelines.adapters.find import AdapterCard, find, lookup, short_hash
from pipelines.errors import ModelError
from pipelines.settings import Settings

STEM = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"


def lora(path: Path, *, width: int = 768, rank: int = 8, metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({f"{STEM}.lora_down.weight": np.zeros((rank, width), np.float16),
               f"{STEM}.lora_up.weight": np.zeros((320, rank), np.float16),
               f"{STEM}.alpha": np.array(4, np.float32)}, path, metadata)
    return path


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "models").mkdir()
    return Settings(data_dir=tmp_path / "data", model_dir=(tmp_path / "models",))


def test_a_card_says_what_the_header_and_the_files_beside_it_say(settings):
    path = lora(settings.data_dir / "loras" / "ink v1.safetensors", metadata={
        "ss_output_name": "inkdrawings", "modelspec.trigger_phrase": "old words", "modelspec.description": "d"})
    path.with_suffix(".json").write_text(json.dumps({
        "activation text": "inkdrawing", "preferred weight": 0.7, "notes": "Black lines."}))
    path.with_suffix(".png").write_bytes(b"picture")
    card, = find(settings)
    facts = path.stat()
    assert card == AdapterCard("ink v1", "inkdrawings", path, "sd15", 8, 4.0, facts.st_size, "inkdrawing", 0.7,
                               path.with_suffix(".png"), "Black lines.", (), facts.st_mtime_ns)
    path.with_suffix(".json").unlink()
    path.with_suffix(".png").unlink()
    assert find(settings)[0].trigger_words == "old words" and find(settings)[0].preview is None


def test_folders_of_other_programs_are_looked_through(settings):
    models = settings.model_dir[0]
    for place in ("models/Lora/a", "models/loras/styles/b", "c"):
        lora(models / f"{place}.safetensors", width=2048)
    (models / "c.civitai.info").write_text(json.dumps({"trainedWords": ["one", "two", 3]}))
    save_file({"model.diffusion_model.input_blocks.0.0.weight": np.zeros(4)}, models / "checkpoint.safetensors")
    (models / "broken checkpoint.safetensors").write_bytes(b"junk")
    lora(models / "diffusers model" / "unet" / "inside.safetensors")
    (models / "diffusers model" / "model_index.json").write_text("{}")
    cards = find(settings)
    assert [card.name for card in cards] == ["a", "b", "c"] and {card.family for card in cards} == {"sdxl"}
    assert cards[2].trigger_words == "one, two" and not any(card.faults for card in cards)


def test_what_cannot_be_used_where_only_loras_lie_is_listed_with_its_reason(settings):
    own = settings.data_dir / "loras"
    whole = lora(own / "good.safetensors")
    (own / "cut.safetensors").write_bytes(whole.read_bytes()[:-10])
    (own / "old.pt").write_bytes(b"\x80")
    lora(own / "huge.safetensors", rank=2000)
    save_file({"vae": np.zeros(3)}, own / "other.safetensors")
    cards = find(settings)
    faults = {card.name: card.faults for card in cards}
    assert faults.pop("good") == ()
    for name, words in (("cut", "cut short"), ("old", "pickles"), ("huge", "rank 2000"), ("other", "holds no LoRA")):
        assert words in faults[name][0] and str(own) not in faults[name][0]
    with pytest.raises(ModelError, match="cut short"):
        lookup(cards, "cut")


def test_equal_names_are_told_apart_by_their_folders(settings):
    lora(settings.data_dir / "loras" / "ink.safetensors")
    lora(settings.data_dir / "loras" / "styles" / "Ink.safetensors")
    lora(settings.model_dir[0] / "styles" / "ink.safetensors")
    assert [card.name for card in find(settings)] == ["ink", "styles/Ink", "styles/ink (2)"]


def test_a_name_is_looked_up_before_an_alias_and_never_as_a_path(settings):
    lora(settings.data_dir / "loras" / "a.safetensors", metadata={"ss_output_name": "b"})
    lora(settings.data_dir / "loras" / "b.safetensors", metadata={"ss_output_name": "Ink"})
    cards = find(settings)
    assert lookup(cards, "B").path.name == lookup(cards, "ink").path.name == "b.safetensors"
    assert lookup(cards, "a").path.name == "a.safetensors"
    for name in ("", "../a", str(cards[0].path), "a.safetensors", "C:\\a", "a\0", "%2e", "CON", "x" * 5000):
        with pytest.raises(ModelError, match="is not here") as fault:
            lookup(cards, name)
        assert len(str(fault.value)) < 200


def test_the_short_hash_is_that_of_the_tensors(settings):
    import hashlib

    own = settings.data_dir / "loras"
    said = lora(own / "said.safetensors", metadata={"sshs_model_hash": "ab" * 32})
    lora(own / "unsaid.safetensors", metadata={"sshs_model_hash": "<b>"})
    data = said.read_bytes()
    body = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little"):]).hexdigest()
    assert {card.name: short_hash(card) for card in find(settings)} == {"said": "ab" * 6, "unsaid": body[:12]}


def test_a_link_out_of_the_folder_is_left_out(settings, tmp_path):
    outside = lora(tmp_path / "outside" / "secret.safetensors")
    own = settings.data_dir / "loras"
    own.mkdir(parents=True)
    (own / "link.safetensors").symlink_to(outside)
    (own / "inside").symlink_to(outside.parent)
    assert find(settings) == ()


def test_files_that_did_not_change_are_not_read_again(settings):
    path = lora(settings.data_dir / "loras" / "ink.safetensors")
    before = find(settings)
    facts = path.stat()
    path.write_bytes(b"\0" * facts.st_size)
    import os

    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert find(settings, before) == before
    assert find(settings)[0].faults
    lora(path, rank=16)
    assert find(settings, before)[0].rank == 16


def test_damaged_notes_are_no_reason_to_leave_a_file_out(settings):
    path = lora(settings.data_dir / "loras" / "ink.safetensors")
    for notes in (b"\xff\xfe", b"[" * 100_000, b'{"activation text": 7, "preferred weight": 1e999}', b"[]"):
        path.with_suffix(".json").write_bytes(notes)
        card, = find(settings)
        assert (card.faults, card.trigger_words, card.preferred_weight) == ((), "", 1.0)


def test_a_thousand_files_are_listed_quickly(settings):
    from time import perf_counter

    first = lora(settings.data_dir / "loras" / "first.safetensors", rank=1)
    for i in range(999):
        first.with_stem(f"{i:04}").write_bytes(first.read_bytes())
    cards = find(settings)
    begin = perf_counter()
    assert find(settings, cards) == cards and len(cards) == 1000
    assert perf_counter() - begin < 2


def test_finding_and_tags_need_no_torch():
    script = ("import sys; sys.modules['torch'] = None; sys.modules['diffusers'] = None; "
              "import pipelines.adapters.find, pipelines.adapters.tags")
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])
