"""Notes beside a file are read by whitelist; the picture beside it is its preview."""

from __future__ import annotations

import json

import pytest

from tests.pipelines.library.files import lora


def test_automatic1111s_notes_civitais_info_and_the_header_are_joined(look, root):
    lora(root / "style.safetensors", metadata={"modelspec.title": "From the header", "modelspec.trigger_phrase": "hdr"})
    (root / "style.json").write_text(json.dumps(
        {"description": "For portraits", "notes": "Use with care", "activation text": "sks style, ",
         "preferred weight": 0.7, "negative text": "blurry", "sd version": "SD1"}))
    (root / "style.civitai.info").write_text(json.dumps(
        {"model": {"name": "The Style"}, "trainedWords": ["a", "b", "a"], "description": "<p>Fish &amp; chips</p>"}))
    said = look()["lora", "style"].finding.said
    assert (said.title, said.notes, said.trigger_words, said.negative_words, said.preferred_weight) == (
        "The Style", "For portraits\nUse with care", ("sks style",), "blurry", 0.7)


def test_civitais_words_are_plain_text_and_each_counts_once(look, root):
    lora(root / "style.safetensors")
    (root / "style.civitai.info").write_text(json.dumps(
        {"trainedWords": ["a,", " b", "a"], "description": "<p>Fish &amp; <script>x</script></p>"}))
    said = look()["lora", "style"].finding.said
    assert (said.trigger_words, said.notes) == (("a", "b"), "Fish & x")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"activation text": 3, "preferred weight": "x", "notes": null}',
                                  '{"preferred weight": 0}', '{"preferred weight": 1e9}', '{"preferred weight": true}',
                                  "x" * 2_000_000])
def test_damaged_notes_count_as_not_said(look, root, text):
    lora(root / "style.safetensors", metadata={"modelspec.title": "Title"})
    (root / "style.json").write_text(text)
    said = look()["lora", "style"].finding.said
    assert (said.title, said.notes, said.trigger_words, said.preferred_weight) == ("Title", "", (), None)


@pytest.mark.parametrize(("names", "chosen"), [
    (["a.png"], "a.png"), (["a.preview.png", "a.jpg"], "a.preview.png"), (["a.webp"], "a.webp"),
    (["a.jpeg"], "a.jpeg"), (["b.png", "a.gif", "a.svg"], None)])
def test_the_picture_of_the_same_name_is_the_preview(look, root, names, chosen):
    lora(root / "a.safetensors")
    for name in names:
        (root / name).write_bytes(b"x")
    preview = look()["lora", "a"].item.preview
    assert (preview and preview.name) == chosen
