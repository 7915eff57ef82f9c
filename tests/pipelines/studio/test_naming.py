"""The names that a picture's text of another machine has, found among the files of this one. No torch."""

from __future__ import annotations

import hashlib

import pytest
from safetensors.numpy import load_file

from pipelines.metadata import parse_any
from pipelines.settings import Settings
from pipelines.studio.assets import Collection
from tests.pipelines.library.files import UNET, checkpoint, lora, write


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A collection with the checkpoint toy and the LoRA inky, and their folder."""
    folder = tmp_path_factory.mktemp("settling")
    checkpoint(folder / "models" / "toy.safetensors")
    lora(folder / "models" / "inky.safetensors")
    large = checkpoint(folder / "models" / "large.safetensors")
    shapes = {name: tensor.shape for name, tensor in load_file(large).items()}
    write(large, {**shapes, f"{UNET}input_blocks.1.0.in_layers.2.weight": (1_000, 100, 3, 3)})
    collection = Collection(Settings(data_dir=folder / "data", model_dir=(folder / "models",)))
    yield collection, folder / "models"
    collection.close()


def settled(here, text: str):
    return here[0].settle(parse_any(text).parsed)


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["toy", "TOY", "toy.safetensors", "illustrious/toy.safetensors", "a\\b\\toy.ckpt",
                                  "illustrious/toy", "toy/toy"])
def test_a_model_is_found_without_folder_and_ending(here, name):
    parsed = settled(here, f"x\nSteps: 20, Seed: 1, Model: {name}, Model hash: b0b64b4b6a, Version: ComfyUI")
    assert parsed.fields["model"] == "toy" and parsed.notes == ()


def test_a_model_is_found_by_its_hash_and_that_is_told(here):
    whole = digest(here[1] / "toy.safetensors")
    for digits in (whole[:10], whole.upper(), f"0x{whole[:12]}"):
        parsed = settled(here, f"x\nSteps: 20, Seed: 1, Model: other, Model hash: {digits}, Version: v1.10.1")
        assert parsed.fields["model"] == "toy"
        assert parsed.notes == ("Model: other is toy here, by its hash.",)
    nameless = settled(here, f'x\nSteps: 20, Seed: 1, Model: , Hashes: {{"model": "{whole[:10]}"}}, Version: ComfyUI')
    assert nameless.fields["model"] == "toy"


def test_a_model_is_found_by_the_short_hash_of_old_versions(here):
    part = (here[1] / "large.safetensors").read_bytes()[0x100000:0x110000]
    text = "x\nSteps: 20, Seed: 1, Model: other, Model hash: {}, Size: 64x64"
    parsed = settled(here, text.format(hashlib.sha256(part).hexdigest()[:8]))
    assert parsed.fields["model"] == "large" and parsed.notes == ("Model: other is large here, by its hash.",)
    too_small = settled(here, text.format(hashlib.sha256(b"").hexdigest()[:8]))
    assert too_small.fields["model"] == "other"


def test_a_model_that_is_not_here_keeps_its_name_and_is_told(here):
    parsed = settled(here, "x\nSteps: 20, Seed: 1, Model: a/strange.safetensors, Model hash: 0123456789")
    assert parsed.fields["model"] == "strange" and parsed.notes == ("Model: strange is not known here.",)
    short = settled(here, "x\nSteps: 20, Seed: 1, Model: strange, Model hash: , Version: v1")
    assert short.notes == ("Model: strange is not known here.",)


@pytest.mark.parametrize("digits", ["auto_v3", "auto_v2"])
def test_a_lora_is_found_by_name_or_hash_and_its_tag_renamed(here, digits):
    path = here[1] / "inky.safetensors"
    data = path.read_bytes()
    body = hashlib.sha256(data[8 + int.from_bytes(data[:8], "little"):]).hexdigest()
    told = {"auto_v3": f'Lora hashes: "ink v2: {body[:12]}"',
            "auto_v2": f'Hashes: {{"lora:ink v2": "{digest(path)[:10]}"}}'}[digits]
    parsed = settled(here, f"a cat <lora:ink v2:0.5:0.7>\nSteps: 20, Seed: 1, {told}, Version: v1.10.1")
    assert parsed.fields["prompt"] == "a cat <lora:inky:0.5:0.7>"
    assert parsed.notes == ("LoRA: ink v2 is inky here, by its hash.",)


def test_a_lora_of_another_spelling_is_found_and_one_that_is_not_here_is_told(here):
    parsed = settled(here, "a <lora:styles/inky.safetensors:0.5> <lora:gone:1>\nSteps: 20, Seed: 1, Size: 64x64")
    assert parsed.fields["prompt"] == "a <lora:inky:0.5> <lora:gone:1>"
    assert parsed.notes == ("LoRA: gone is not known here.",)


def test_a_lora_in_a_comment_is_not_asked_for(here):
    parsed = settled(here, "a cat\n# off: <lora:gone:1>\nSteps: 20, Seed: 1, Size: 64x64")
    assert parsed.fields["prompt"] == "a cat\n# off: <lora:gone:1>" and parsed.notes == ()


def test_embeddings_that_are_not_here_are_told(here):
    parsed = settled(here, 'x\nSteps: 20, Seed: 1, TI hashes: "easy: 0123456789, bad: 1", Version: v1.10.1')
    assert parsed.notes == ("Embedding: easy is not known here.", "Embedding: bad is not known here.")


def test_a_text_without_names_asks_for_no_file(here):
    parsed = parse_any("x\nSteps: 20, Seed: 1, Size: 64x64").parsed
    assert here[0].settle(parsed) == parsed
