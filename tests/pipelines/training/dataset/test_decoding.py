"""Captions in any encoding are read as they were written, or left out with a word; never as other letters unsaid."""

from __future__ import annotations

import pytest

from pipelines.training.dataset.decoding import CODECS, decode

CAT = "a cat’s hat"


@pytest.mark.parametrize(("data", "text"), [
    (CAT.encode(), CAT), (CAT.encode("utf-8-sig"), CAT), (CAT.encode("utf-16"), CAT), (CAT.encode("utf-32"), CAT),
    ("\ufeff赤い猫".encode("utf-16-be"), "赤い猫"), ("größer, süß".encode(), "größer, süß"), (b"", "")])
def test_what_says_its_encoding_is_read_without_a_word(data, text):
    assert decode(data) == (text, "")


@pytest.mark.parametrize("text", [CAT, "1girl, red hair, 赤い猫", "été"])
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_known_by_its_zeros(text, codec):
    assert decode(text.encode(codec)) == (text, "UTF-16 without a byte order mark")


@pytest.mark.parametrize("text", [CAT, "café", "größer, süße Füße", "“Über den Wolken” – schön", "Ærø, naïve façade"])
def test_western_european_text_is_read_and_said(text):
    assert decode(text.encode("cp1252")) == (text, "not UTF-8; read as Western European text")


@pytest.mark.parametrize(("text", "name"), [
    ("一只红色的猫", "gbk"), ("1girl, 红色的猫, solo", "gbk"), ("赤い猫", "shift-jis"), ("紅色的貓", "big5"),
    ("빨간 고양이", "euc-kr"), ("赤い猫", "euc-jp"), ("рыжий кот", "windows-1251"), ("赤い猫", "utf-16-le"),
    ("žluťoučký kůň, ňžť", "windows-1250")])
def test_other_scripts_are_left_out_with_a_word_until_their_encoding_is_chosen(text, name):
    data = text.encode(CODECS[name])
    found, told = decode(data)
    assert found is None and "choose its encoding" in told
    assert decode(data, name) == (text, f"not UTF-8; read as {name}")
    assert decode(CAT[:5].encode(), name.replace("utf-16-le", "auto")) == (CAT[:5], "")  # the same in both


@pytest.mark.parametrize(("text", "name"), [
    ("扡瑴", "utf-16-le"), ("扡瑴", "utf-16-be"), ("小猫", "gbk"), ("Ö±", "windows-1252")])
def test_the_chosen_encoding_is_tried_before_utf_8_which_may_fit_by_chance(text, name):
    data = text.encode(CODECS[name])
    assert data.decode() != text  # it is UTF-8 as well, of other letters
    assert decode(data, name) == (text, f"both {name} and UTF-8; read as {name}")


def test_what_is_not_of_the_chosen_encoding_is_said():
    assert decode("café".encode("cp1252"), "shift-jis") == (None, "it is not shift-jis")
    assert decode("ca赤é".encode(), "euc-kr") == ("ca赤é", "not euc-kr; read as UTF-8")
    assert decode(b"\xff\xfea", "auto")[0] is None  # half of a letter
