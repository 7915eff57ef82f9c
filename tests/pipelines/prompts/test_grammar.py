"""Any text parses, and weights are AUTOMATIC1111's."""

from __future__ import annotations

import random
from time import thread_time

import pytest

from pipelines.prompts.grammar import MAX_BRACKETS, MAX_DEPTH, MAX_PARTS, parse, without_tags
from pipelines.prompts.schedule import Span, flatten, plan

LIMIT_S = 1.0  # of this thread's own; what is read again and again for each bracket takes longer by far


def weights(text, **kwargs):
    """[(text, weight)] of a prompt of one part, and None for BREAK."""
    (part,) = parse(text).parts
    found = []
    for number, section in enumerate(flatten(part.children, 1, Span(10), **kwargs)):
        found += [None] if number else []
        found += [(piece.text, pytest.approx(piece.weight)) for piece in section]
    return found


@pytest.mark.parametrize(("text", "expected"), [
    ("normal text", [("normal text", 1.0)]),
    ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
    ("a [lesser] word", [("a ", 1.0), ("lesser", 1 / 1.1), (" word", 1.0)]),
    ("(x:1.3) y", [("x", 1.3), (" y", 1.0)]),
    ("(x: .5 )", [("x", 0.5)]),
    ("(x:-1)", [("x", -1.0)]),
    ("(a:b:1.2)", [("a:b", 1.2)]),
    ("(x:1.2.3)", [("x:1.2.3", 1.1)]),
    ("(ratio 16:9 wide)", [("ratio 16:9 wide", 1.1)]),
    ("((a)b)", [("a", 1.21), ("b", 1.1)]),
    ("(unbalanced", [("unbalanced", 1.1)]),
    ("a (b:1.3", [("a ", 1.0), ("b", 1.1)]),  # the number at the end is the weight of the whole prompt
    (r"\(literal\]", [("(literal]", 1.0)]),
    (r"(a \(b\):1.5)", [("a (b)", 1.5)]),
    (r"back\\slash", [("back\\slash", 1.0)]),
    ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
    ("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
     [("a ", 1.0), ("house", 1.573), (" ", 1.1), ("on", 1.0), (" a ", 1.1), ("hill", 0.55), (", sun, ", 1.1),
      ("sky", 1.4641), (".", 1.1)]),
    ("a)b]", [("a)b]", 1.0)]),
    ("a:1.3) b", [("a:1.3) b", 1.0)]),
    ("[a:b:c:0.5]", [("a:b:c:0.5", 1 / 1.1)]),
    ("[a:b]", [("a:b", 1 / 1.1)]),
    ("a|b", [("a|b", 1.0)]),
    ("a BREAK b", [("a ", 1.0), None, (" b", 1.0)]),
    ("(a BREAK b:2)", [("a ", 2.0), None, (" b", 2.0)]),
    ("a BREAKfast", [("a BREAKfast", 1.0)]),
    (r"a \#1 (cat)", [("a #1 ", 1.0), ("cat", 1.1)]),
    ("", []),
])
def test_weights_are_those_of_the_published_rules(text, expected):
    assert weights(text) == expected


def test_a_weight_of_one_is_no_weight():
    assert weights("(a:1.0) cat") == weights("a cat") == [("a cat", 1.0)]


@pytest.mark.parametrize("text", ["(a:1.3) [b] ((c", r"\(a\) BREAK b", "[a:b] x)"])
def test_emphasis_none_takes_brackets_literally(text):
    assert weights(text, literal=True) == [(text, 1.0)]


def test_and_joins_prompts_with_weights():
    parts = parse("a cat :1.2 AND a (dog:1.1) AND fish:-0.5").parts
    assert [part.weight for part in parts] == [1.2, 1.0, -0.5]
    assert [flatten(part.children, 1, Span(1))[0][0].text.strip() for part in parts] == ["a cat", "a", "fish"]


@pytest.mark.parametrize("text", ["SAND ANDROID", "a castle 16:9 wide", "sand and sea"])
def test_only_the_word_and_joins(text):
    (part,) = parse(text).parts
    assert part.weight == 1.0 and flatten(part.children, 1, Span(1))[0][0].text == text


def test_and_is_a_word_in_a_negative_prompt():
    (part,) = parse("a AND b", composable=False).parts
    assert flatten(part.children, 1, Span(1))[0][0].text == "a AND b"


def test_no_more_prompts_are_joined_than_the_limit_and_it_is_said():
    parsed = parse(" AND ".join("x" * 40))
    assert len(parsed.parts) == MAX_PARTS and "further ones were taken as text" in parsed.notices[0]
    assert not parse(" AND ".join("x" * MAX_PARTS)).notices


@pytest.mark.parametrize(("text", "places"), [("a (b", (2,)), ("a) b]", (1, 4)), ("([a)", (1,)), ("(a) [b]", ()),
                                              (r"\(", ())])
def test_places_of_lone_brackets_are_told(text, places):
    assert parse(text).unbalanced == places


@pytest.mark.parametrize(("text", "used"), [("(x:1e9)", 1e9), ("(x:-1000000)", -1e6), ("(x:30)", 30.0)])
def test_a_weight_is_taken_as_it_is(text, used):
    made = plan(text, "", 1)
    ((section,), _), = made.scenes[0].prompts
    assert section[0].weight == used and not made.notices


@pytest.mark.parametrize("text", ["(x:nan)", "(x:inf)", "(x:1e999)"])
def test_a_weight_that_is_no_number_counts_as_1_and_it_is_said(text):
    made = plan(text, "", 1)
    ((section,), _), = made.scenes[0].prompts
    assert section[0].weight == 1 and "is not possible" in made.notices[0]


def test_unknown_tags_are_left_out_and_it_is_said():
    assert without_tags("a <lora:x:0.5> cat <hypernet:y:1> <token>") == ("a  cat  <token>",
                                                                           ("<lora:x:0.5>", "<hypernet:y:1>"))
    made = plan("a cat<lora:x:0.5>", "", 1)
    assert made.scenes[0].prompts[0][0][0][0].text == "a cat" and "<lora:x:0.5>" in made.notices[0]


def test_brackets_deeper_than_the_limit_are_text_and_their_partners_too():
    deep = MAX_DEPTH + 5
    (part,) = parse("[" * deep + "x" + "]" * deep).parts
    (section,) = flatten(part.children, 1, Span(1))
    assert section[0].text == "[" * 5 + "x" + "]" * 5
    assert section[0].weight == pytest.approx(1.1 ** -MAX_DEPTH)


@pytest.mark.parametrize("text", [
    "(" * 10_000, ")" * 10_000, "(" * 10_000 + "x" + ")" * 10_000, "[" * 10_000 + "a:b:0.5" + "]" * 10_000,
    "([" * 500 + ")]" * 500, "()" * (MAX_BRACKETS // 2), "(a:1.2)" * 500, "[a|b]" * 800, "[a:b:0.5]" * 400,
    "a:b|" * 1_000, "\\(" * 2_000, "a AND " * 600, "BREAK " * 600, "#" * 4_000, ":1" * 2_000 + ")", "\\" * 3_999,
    "x" * 4_000, "(a:" + "1" * 3_990 + ")", "[a:b:" + "9" * 3_990 + "]", "\0\ud800\U0010ffff(\r\n:1)"])
def test_hostile_texts_are_read_in_time(text):
    parse("(warm:1.1) [up:0.5]")
    assert timed(text) < LIMIT_S
    assert len(plan(text, text, 20).scenes) == 20


def test_ten_thousand_random_texts_are_read_in_time():
    chance = random.Random(7)
    pieces = [*"()[]:|\\#<>{} ,.\n", ":0.5]", ":1.3)", ":12]", "[a|b]", "(a:1.2)", " AND ", " BREAK ", "cat", "ö", "🐱",
              ":nan)", ":1e9)", "<lora:x:1>", "::", "\\("]
    slowest = 0.0
    for number in range(10_000):
        text = "".join(chance.choices(pieces, k=chance.choice((4, 10, 30))))
        slowest = max(slowest, timed(text))
        if number % 10 == 0:
            assert len(plan(text, text, 5).scenes) == 5
    assert slowest < LIMIT_S


def timed(text):
    """Seconds of this thread to read a text; what seems slow is measured again, as it may be the collector."""
    took = []
    while not took or (took[-1] > LIMIT_S and len(took) < 3):
        begin = thread_time()
        parse(text)
        took.append(thread_time() - begin)
    return min(took)
