"""What is marked in a prompt while it is typed."""

from __future__ import annotations

import pytest

from pipelines.prompts.marks import MAX_MARKS, marks


def marked(text):
    found = marks(text, is_lora="fox".__eq__, is_wildcard="animals/cats".__eq__, is_word="<s0:a>".__eq__)
    return [(text[mark.start:mark.end], mark.why) for mark in found]


@pytest.mark.parametrize("text", [
    "a (red:1.3) [cat]", r"an \( escaped one", "<lora:fox:0.8> a fox", "__animals/cats__", "# (a comment", "a <b> c",
    "# <lora:x:1> __rooms__", "__animals/cats(name=tom)__",
    "a <s0:a> c"])
def test_what_is_well_formed_has_no_mark(text):
    assert marked(text) == []


def test_brackets_without_a_partner_are_marked_where_they_stand():
    assert marked("a) red (cat") == [(")", "This bracket has no partner."), ("(", "This bracket has no partner.")]
    assert [place for place, _ in marked("🐱 [a (b] c)")] == ["(", ")"]


def test_names_that_nothing_answers_to_are_marked():
    assert marked("a <lora:foxx:1> in __rooms__, <hypernet:x:1>") == [
        ("<lora:foxx:1>", "There is no LoRA called foxx."), ("__rooms__", "There is no wildcard file for __rooms__."),
        ("<hypernet:x:1>", "Nothing here knows the tag <hypernet:x:1>.")]


def test_what_a_tag_holds_and_is_not_read_is_marked():
    assert marked("a <lora:fox:1:lbw=OUTALL>") == [
        ("<lora:fox:1:lbw=OUTALL>", "fox: 'lbw=OUTALL' in its tag is not read: it has one strength for all blocks.")]
    assert marked("<lora:fox:1:__b__>") == [("<lora:fox:1:__b__>", "fox: '__b__' in its tag is not read.")]


def test_a_bracket_in_the_name_of_a_lora_is_no_bracket():
    assert [place for place, _ in marked("(a) <lora:x(1:1> b)")] == ["<lora:x(1:1>", ")"]


def test_a_wall_of_brackets_has_a_bounded_number_of_marks():
    assert len(marked("(" * 1_900)) == MAX_MARKS
    assert marked("(" * 10_000) == []  # taken literally as a whole
