"""What the counter under the prompt shows."""

from __future__ import annotations

import pytest

from pipelines.prompts.chunks import MAX_CHUNKS
from pipelines.prompts.tokens import count
from tests.work import calls

MOST_CALLS = 200_000  # 30 ms or so where nothing else runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tests.tiny import write_tokenizer

    folder = tmp_path_factory.mktemp("tokens") / "tokenizer"
    write_tokenizer(folder)
    return folder


@pytest.mark.parametrize(("text", "shown", "chunks"), [
    ("", "0/75", (0,)),
    ("a red cat", "3/75", (3,)),
    ("cat " * 75, "75/75", (75,)),
    ("cat " * 81, "81/150", (75, 6)),
    ("cat " * 60 + ", " + "dog " * 20, "95/150", (61, 20)),
    ("a BREAK cat", "76/150", (1, 1)),
    ("(a:1.3) [red] (((cat)))", "3/75", (3,)),
    ("a cat # a comment", "2/75", (2,)),
    ("<lora:x:0.8> a cat", "2/75", (2,)),
    ("[a:a red cat:0.5]", "3/75", (3,)),
    ("[a|a red cat|a]", "3/75", (3,)),
    ("a cat AND the red sun :0.5", "3/75", (3,)),
])
def test_tokens_are_counted_without_syntax(folder, text, shown, chunks):
    tokens = count(text, folder)
    assert f"{tokens.count}/{tokens.limit}" == shown and tokens.chunks == chunks
    assert (tokens.kept, tokens.cut) == (text, "")


def test_only_what_lies_beyond_the_cap_is_cut(folder):
    tokens = count("cat " * (75 * MAX_CHUNKS) + "(dog:1.2) sun", folder)
    assert tokens.count == 75 * MAX_CHUNKS + 2 and tokens.limit == 75 * MAX_CHUNKS
    assert tokens.cut.strip() == "dog sun" and tokens.kept.strip() == ("cat " * 75 * MAX_CHUNKS).strip()


def test_an_embedding_counts_as_its_vectors(folder):
    assert count("a sun", folder, names={"sun": 8}).count == 9


@pytest.mark.parametrize("text", ["a red cat, " * 360, "(red:1.2) [cat|dog] " * 190, "🐱" * 4_000, "[a|b|c]" * 500])
def test_four_thousand_characters_are_counted_while_typing(folder, text):
    count(text, folder)
    assert calls(count, text, folder) < MOST_CALLS
