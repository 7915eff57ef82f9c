"""Where chunks end: 75 tokens, near commas, and BREAK."""

from __future__ import annotations

import pytest

from pipelines.prompts.chunks import chunked
from pipelines.prompts.schedule import plan

COMMA = 99


def encode(text):
    """One token a word: a is 1, b is 2 ...; the comma is 99."""
    return [COMMA if word == "," else ord(word[0]) - 96 for word in text.split()]


def lengths(text, **kwargs):
    return [len(chunk.ids) for chunk in cut(text, **kwargs)]


def cut(text, **kwargs):
    return chunked(plan(text, "", 1).scenes[0].prompts[0][0], encode, COMMA, **kwargs)


@pytest.mark.parametrize(("words", "expected"), [(0, [0]), (1, [1]), (75, [75]), (76, [75, 1]), (151, [75, 75, 1])])
def test_seventy_five_tokens_make_a_chunk(words, expected):
    assert lengths("a " * words) == expected


@pytest.mark.parametrize(("before", "expected"), [
    (70, [71, 10]),  # five tokens after the comma do not fit: they move together
    (55, [56, 25]),  # 20 back is near enough
    (54, [75, 6]),   # 21 is not
    (74, [75, 10]),  # nothing lies between the comma and the end
    (75, [75, 11]),  # the comma itself begins the next chunk
])
def test_a_near_comma_ends_the_chunk(before, expected):
    chunks = cut("a " * before + ", " + "b " * (80 - before if before < 70 else 10))
    assert [len(chunk.ids) for chunk in chunks] == expected


def test_what_moves_behind_a_comma_keeps_its_order_and_weights():
    first, second = cut("a " * 70 + ", b (c:1.5) " + "d " * 10)
    assert first.ids == (1,) * 70 + (COMMA,)
    assert second.ids == (2, 3) + (4,) * 10
    assert second.weights == (1.0, 1.5) + (1.0,) * 10


def test_a_comma_of_the_chunk_before_does_not_count():
    assert lengths("a " * 70 + ", " + "b " * 90) == [71, 75, 15]


def test_break_ends_a_chunk_and_a_last_one_adds_none():
    assert lengths("a a BREAK b") == [2, 1]
    assert lengths("a BREAK") == [1]
    assert lengths("BREAK a") == [0, 1]
    assert lengths("a BREAK BREAK b") == [1, 0, 1]
    assert lengths("a " * 75 + "BREAK b") == [75, 1]


def test_a_bare_name_stands_for_its_vectors():
    names = {"x": 3, "x y": 2}
    (chunk,) = cut("a (x:1.5) b x y", names=names)
    assert chunk.ids == (1, 0, 0, 0, 2, 0, 0)
    assert chunk.vectors == ((1, "x"), (5, "x y"))  # the longer name wins
    assert chunk.weights == (1.0, 1.5, 1.5, 1.5, 1.0, 1.0, 1.0)


def test_vectors_are_not_torn_apart():
    first, second = cut("a " * 73 + "x", names={"x": 3})
    assert len(first.ids) == 73 and second.vectors == ((0, "x"),)


def test_vectors_move_with_their_phrase_behind_a_comma():
    first, second = cut("a " * 70 + ", b x c c c", names={"x": 2})
    assert len(first.ids) == 71 and not first.vectors
    assert second.vectors == ((1, "x"),) and second.ids == (2, 0, 0, 3, 3, 3)
