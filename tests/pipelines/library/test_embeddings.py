"""Embedding files become vectors, by name and text encoder."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.errors import ModelError
from pipelines.library.embeddings import read, read_words, vectors
from tests.pipelines.library.files import embedding, lora


def save(path, tensors):
    from safetensors.numpy import save_file

    save_file(tensors, path)
    return path


def test_every_format_gives_its_vectors_by_text_encoder(tmp_path):
    values = np.arange(6, dtype=np.float16).reshape(2, 3)
    for name, tensors, wanted in (
            ("automatic1111", {"emb_params": values}, {"text_encoder": values}),
            ("diffusers", {"<cat>": values[0]}, {"text_encoder": values[:1]}),
            ("xl", {"clip_l": values, "clip_g": values[:, :2].copy()},
             {"text_encoder": values, "text_encoder_2": values[:, :2]})):
        found = read(save(tmp_path / f"{name}.safetensors", tensors))
        assert {side: vector.tolist() for side, vector in found.items()} == {
            side: vector.astype(np.float32).tolist() for side, vector in wanted.items()}
        assert all(str(vector.dtype) == "torch.float32" for vector in found.values())


@pytest.mark.parametrize(("tensors", "words"), [
    ({"clip_l": 2, "clip_g": 2, "clip_l_out": 2, "clip_g_out": 2}, {"": {"text_encoder": 2, "text_encoder_2": 2}}),
    ({"emb_params": 2, "emb_params_out": 2}, {"": {"text_encoder": 2}}),
    ({"sks.v2": 3}, {"sks.v2": {"text_encoder": 3}}),
    ({"<s0>": 1, "<s1>": 2}, {"<s0>": {"text_encoder": 1}, "<s1>": {"text_encoder": 2}}),
    ({"text_encoders_0": 2, "text_encoders_1": 2}, {"": {"text_encoder": 2, "text_encoder_2": 2}})])
def test_files_of_several_tensors_give_each_word_its_vectors(tmp_path, tensors, words):
    made = {name: np.full((count, 768), i, np.float32) for i, (name, count) in enumerate(tensors.items())}
    found = read_words(save(tmp_path / "e.safetensors", made))
    assert {word: {side: len(value) for side, value in sides.items()} for word, sides in found.items()} == words
    whole = read(tmp_path / "e.safetensors")
    assert {side: len(value) for side, value in whole.items()} == {
        side: sum(sides[side] for sides in words.values()) for side in next(iter(words.values()))}


def test_the_tokens_of_a_file_are_words_and_its_name_means_all_of_them(library, root):
    tokens = {"<s0>": np.zeros((1, 768), np.float32), "<s1>": np.ones((2, 768), np.float32)}
    save(root / "pair.safetensors", tokens)
    save(root / "out.safetensors", {"emb_params": tokens["<s1>"], "emb_params_out": tokens["<s1>"]})
    save(root / "plain.safetensors", {"cat": tokens["<s0>"]})
    library.refresh()
    assert library.wait(60)
    entries = library.entries(kind="embedding")

    def sums(text):
        found, told = vectors(entries, [text], {"text_encoder": 768})
        return {word: sides["text_encoder"].sum(1).tolist() for word, sides in found.items()}, told

    assert sums("a <s1> in a room") == ({"<s1>": [768.0, 768.0]}, ())
    assert sums("a photo of <s0><s1>")[0] == {"<s0>": [0.0], "<s1>": [768.0, 768.0], "<s0><s1>": [0.0, 768.0, 768.0]}
    assert sums("pair, a cat") == ({"pair": [0.0, 768.0, 768.0]}, ())  # a word of the language is no token
    assert "out: its vectors emb_params_out are not used" in sums("out")[1][0]


@pytest.mark.parametrize(("tensors", "words"), [
    ({"emb_params": np.float32([[np.nan, 1]])}, "not finite"),
    ({"clip_l": np.ones((2, 4), np.float32), "clip_g": np.ones((3, 4), np.float32)}, "differ in length"),
    ({"a.weight": np.ones((2, 4), np.float32)}, "it is no embedding")])
def test_an_embedding_that_cannot_be_used_says_why(tmp_path, tensors, words):
    with pytest.raises(ModelError, match=f"^e.safetensors cannot be used: .*{words}"):
        read(save(tmp_path / "e.safetensors", tensors))


def test_only_what_a_text_names_is_read_and_what_cannot_be_used_says_why(library, root):
    embedding(root / "easy.safetensors")
    embedding(root / "Bad Hands-5.safetensors")
    embedding(root / "two.safetensors", 1024)
    gone = embedding(root / "gone.safetensors")
    unread = embedding(root / "unread.safetensors")
    (root / "embeddings").mkdir()
    (root / "embeddings" / "old.pt").write_bytes(b"a pickle")
    lora(root / "style.safetensors")
    library.refresh()
    assert library.wait(60)
    gone.unlink()
    unread.unlink()
    texts = ["EASY, (bad hands-5:1.2), style", "two, gone old; uneasy twofold unread2"]
    found, faults = vectors(library.entries(), texts, {"text_encoder": 768})
    assert {name: tuple(sides["text_encoder"].shape) for name, sides in found.items()} == {
        "easy": (3, 768), "Bad Hands-5": (3, 768)}
    words = {fault.partition(" ")[0]: fault for fault in faults}
    assert "No such file" in words["gone.safetensors"] and "pickles" in words["old.pt"]
    assert words["two.safetensors"] == ("two.safetensors cannot be used with this model: its vectors have 1024 "
                                        "numbers, and the model reads 768. Its name was read as words.")
    assert len(faults) == 3
