"""Comments end at the line, and only what is typed outside of them is read."""

from __future__ import annotations

import pytest

from pipelines.prompts.comments import behind, blanked, prompts_without_comments, without_comments
from pipelines.prompts.marks import marks


@pytest.mark.parametrize(("text", "kept"), [
    ("a red apple # note", "a red apple"), ("# fruit\na {red|green} apple", "a {red|green} apple"),
    ("a\n  # off: <lora:loud:1>\nb", "a\nb"), ("a #one\n\nb", "a\n\nb"), ("#", ""), ("", ""), ("a\n# b", "a"),
    (r"\#1 cat \# two # three", r"\#1 cat \# two"), (r"a \\# b", r"a \\"), ("<lora:ink#2:1> a # b", "<lora:ink#2:1> a"),
    ("{a\n# | b  # out\n|c}", "{a\n|c}"), ("a # b\r\nc\r# d\re", "a\nc\ne"),
    ("no comment\r\nat all", "no comment\r\nat all"), ("# a <lora:x\n>", ">")])
def test_comments_are_taken_out(text, kept):
    assert without_comments(text) == kept == without_comments(kept)
    assert len(blanked(text)) == len(text)


def test_a_prompt_of_nothing_but_a_comment_is_none_and_an_empty_one_stays():
    assert prompts_without_comments(("a # b", "# c", "")) == ("a", "")


@pytest.mark.parametrize(("text", "places"), [
    ("a red hat, #ff0000 ribbon", ["#"]), ("the #1 cat", ["#"]), ("a cat # 1", []), ("#1", []), (r"the \#1 cat", []),
    ("a\n#note (\nb (c", ["("])])
def test_a_comment_that_looks_like_a_word_is_marked_and_nothing_in_a_comment_is(text, places):
    found = marks(text, is_lora=lambda name: True, is_wildcard=lambda name: False)
    assert [text[mark.start:mark.end] for mark in found] == places


@pytest.mark.parametrize(("prompt", "whole"), [
    ("a cat", "a cat, x"), ("a cat # mine ", "a cat # mine\nx"), ("# mine\na cat", "# mine\na cat, x"), (" ", "x")])
def test_what_is_put_behind_a_comment_is_none(prompt, whole):
    assert behind(prompt, "x", ", ") == whole and behind(prompt, "", ", ") == prompt.strip()


def test_long_texts_are_read_in_time():
    for text in ("#" * 4_000, " " * 4_000 + "#", "<a:" * 1_300, "\\#" * 2_000, "#\n" * 2_000):
        assert len(without_comments(text)) <= len(text)
