"""The LoRA that a tag names is looked up in what the library found, with no torch."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipelines.adapters.find import lookup, short_hash
from pipelines.errors import ModelError
from pipelines.library import Library, places
from pipelines.library.hashes import Hashes
from pipelines.settings import Settings
from tests.pipelines.library.files import lora


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "models").mkdir()
    return Settings(data_dir=tmp_path / "data", model_dir=(tmp_path / "models",))


@pytest.fixture
def find(settings):
    library = Library(settings.data_dir, lambda: places(settings))

    def find():
        library.refresh()
        assert library.wait(60)
        return library.entries(kind="lora")
    yield find
    library.close()


def test_an_entry_says_what_the_header_and_the_files_beside_it_say(settings, find):
    path = lora(settings.data_dir / "loras" / "ink v1.safetensors", rank=8, metadata={
        "ss_output_name": "inkdrawings", "modelspec.trigger_phrase": "old words", "modelspec.description": "d"})
    path.with_suffix(".json").write_text(json.dumps({
        "activation text": "inkdrawing", "preferred weight": 0.7, "notes": "Black lines."}))
    path.with_suffix(".png").write_bytes(b"picture")
    card, = find()
    assert (card.name, card.family, card.facts["ranks"], card.facts["alias"]) == ("ink v1", "sd15", [8], "inkdrawings")
    assert (card.trigger_words, card.preferred_weight, card.notes) == (("inkdrawing",), 0.7, "Black lines.")
    assert card.preview == path.with_suffix(".png")
    path.with_suffix(".json").unlink()
    path.with_suffix(".png").unlink()
    assert find()[0].trigger_words == ("old words",) and find()[0].preview is None


def test_what_cannot_be_used_where_only_loras_lie_is_listed_with_its_reason(settings, find):
    own = settings.data_dir / "loras"
    whole = lora(own / "good.safetensors")
    (own / "cut.safetensors").write_bytes(whole.read_bytes()[:-10])
    (own / "old.pt").write_bytes(b"\x80")
    lora(own / "huge.safetensors", rank=2000)
    save_file({"other.weight": np.zeros(3)}, own / "other.safetensors")
    faults = {card.name: card.fault for card in find()}
    assert faults.pop("good") == ""
    for name, words in (("cut", "cut short"), ("old", "pickles"), ("huge", "rank 2000"), ("other", "holds no LoRA")):
        assert words in faults[name] and str(own) not in faults[name]
    with pytest.raises(ModelError, match="cut short"):
        lookup(find(), "cut")


def test_a_name_holds_nothing_that_would_end_its_tag(settings, find):
    lora(settings.data_dir / "loras" / "a:b<c>.safetensors")
    lora(settings.model_dir[0] / "a:b<c>.safetensors")
    assert [card.name for card in find()] == ["a b c", "a b c .safetensors"]


def test_what_was_trained_here_keeps_its_name(settings, find):
    lora(settings.model_dir[0] / "styles" / "ink.safetensors")
    lora(settings.data_dir / "loras" / "ink.safetensors")
    lora(settings.data_dir / "runs" / "ink" / "checkpoints" / "step-0000300" / "ink-300.safetensors")
    found = {card.name: card.path.parent.name for card in find()}
    assert found == {"ink": "loras", "styles/ink.safetensors": "styles", "ink-300": "step-0000300"}


def test_a_name_is_looked_up_before_an_alias_and_never_as_a_path(settings, find):
    lora(settings.data_dir / "loras" / "a.safetensors", metadata={"ss_output_name": "b"})
    lora(settings.data_dir / "loras" / "b.safetensors", metadata={"ss_output_name": "Ink"})
    cards = find()
    assert lookup(cards, "B").path.name == lookup(cards, "ink").path.name == "b.safetensors"
    assert lookup(cards, "a").path.name == "a.safetensors"
    for name in ("", "../a", str(cards[0].path), "a.safetensors", "C:\\a", "a\0", "%2e", "CON", "x" * 5000):
        with pytest.raises(ModelError, match="is not here") as fault:
            lookup(cards, name)
        assert len(str(fault.value)) < 200


def test_the_short_hash_is_that_of_the_tensors(settings, find):
    own = settings.data_dir / "loras"
    said = lora(own / "said.safetensors", metadata={"sshs_model_hash": "ab" * 32})
    lora(own / "unsaid.safetensors", metadata={"sshs_model_hash": "<b>"})
    data = said.read_bytes()
    body = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little"):]).hexdigest()
    hashes = Hashes(settings.data_dir)
    assert {card.name: short_hash(card, hashes) for card in find()} == {"said": "ab" * 6, "unsaid": body[:12]}


def test_a_hash_is_computed_once(settings, find):
    path = lora(settings.data_dir / "loras" / "large.safetensors")
    card, = find()
    digest = short_hash(card, Hashes(settings.data_dir))
    path.unlink()
    assert short_hash(card, Hashes(settings.data_dir)) == digest


def test_a_link_out_of_the_folder_is_left_out(settings, find, tmp_path):
    outside = lora(tmp_path / "outside" / "secret.safetensors")
    own = settings.data_dir / "loras"
    own.mkdir(parents=True)
    (own / "link.safetensors").symlink_to(outside)
    (own / "inside").symlink_to(outside.parent)
    assert find() == ()


def test_finding_and_tags_need_no_torch():
    script = ("import sys; sys.modules['torch'] = None; sys.modules['diffusers'] = None; "
              "import pipelines.adapters.find, pipelines.prompts.lora_tags, pipelines.studio.assets")
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])
