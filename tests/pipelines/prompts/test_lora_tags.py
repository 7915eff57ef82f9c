from __future__ import annotations

import random

import pytest

from pipelines.prompts.lora_tags import MAX_WEIGHT, Use, extract


@pytest.mark.parametrize(("prompt", "rest", "uses"), [
    ("a cat", "a cat", ()),
    ("  kept as it is ", "  kept as it is ", ()),
    ("a <lora:ink:0.8> cat", "a  cat", (Use("ink", 0.8, 0.8),)),
    ("a cat <lora:ink>", "a cat", (Use("ink", 1.0, 1.0),)),
    ("<lora:ink:0.5:0.25>", "", (Use("ink", unet_weight=0.25, te_weight=0.5),)),
    ("<lora:ink:te=0:unet=1.5>", "", (Use("ink", unet_weight=1.5, te_weight=0.0),)),
    ("<lora:ink:0.7:unet=0.2>", "", (Use("ink", unet_weight=0.2, te_weight=0.7),)),
    ("<lora:ink:1:1:8:lbw=XYZ>", "", (Use("ink", unread=("8", "lbw=XYZ")),)),
    ("<lora:ink:0.5:in=0:out=1>", "", (Use("ink", 0.5, 0.5, ("in=0", "out=1")),)),
    ("<lyco:old:-1>", "", (Use("old", -1.0, -1.0),)),
    ("<lora:a:.5><LORA:b:2>", "", (Use("a", 0.5, 0.5), Use("b", 2.0, 2.0))),
    ("<lora:two words v1.0:1>", "", (Use("two words v1.0"),)),
    ("<lora:a:0.5> and <lora:a:0.25:1>", "and", (Use("a", unet_weight=1.5, te_weight=0.75),)),
])
def test_tags_are_taken_out_and_read(prompt, rest, uses):
    assert extract(prompt) == (rest, uses)


@pytest.mark.parametrize("weight", ["nan", "inf", "1e9", "0x1", "much", "", "--1", "1 1", "\u0661", "9" * 400])
def test_what_is_no_number_counts_as_not_given(weight):
    rest, (use,) = extract(f"x <lora:a:{weight}>")
    assert (rest, use.unet_weight, use.te_weight) == ("x", 1.0, 1.0)
    assert use.unread == ((weight,) if weight else ()) and len(use.notes) == len(use.unread)


def test_what_a_tag_holds_and_is_not_read_is_said():
    (use,) = extract("<lora:ink:1:lbw=OUTALL:start=3>")[1]
    assert use.notes == ("ink: 'lbw=OUTALL' in its tag is not read: it has one strength for all blocks.",
                         "ink: 'start=3' in its tag is not read.")


def test_weights_stay_within_bounds():
    assert extract("<lora:a:999><lora:b:-999:0>")[1] == (Use("a", MAX_WEIGHT, MAX_WEIGHT), Use("b", 0.0, -MAX_WEIGHT))


@pytest.mark.parametrize("text", ["a < b", "unclosed <lora:a", "<hypernet:x:1>", "<b>", "1 <2:3>", "lora:a:1"])
def test_what_is_no_tag_stays_in_the_prompt(text):
    assert extract(text) == (text, ())


def test_a_tag_without_a_name_is_dropped():
    assert extract("cat <lora::1>") == ("cat", ())


def test_junk_never_raises():
    draw = random.Random(0)
    pieces = ["<lora:", "<lyco:", ">", "<", ":", "=", "te=", "unet=", "0.5", "-", ".", "nan", "\n", "é", "\0", "a"]
    for _ in range(3000):
        text, uses = extract("".join(draw.choices(pieces, k=draw.randrange(30))))
        assert isinstance(text, str) and all(abs(use.unet_weight) <= MAX_WEIGHT for use in uses)
    assert extract("<lora:" * 100_000)[1] == ()
