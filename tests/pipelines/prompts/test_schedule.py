"""What is read at which step, against AUTOMATIC1111's published tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.prompts.comments import without_comments
from pipelines.prompts.schedule import Span, plan, span_of

GOLDEN = [json.loads(line) for line in (Path(__file__).parent / "automatic1111.jsonl").read_text("utf-8").splitlines()]
SPANS = {"20 calls of 20": span_of(20, "AUTOMATIC1111", counted=20),
         "39 calls of 40 (second order, 20 steps)": span_of(20, "AUTOMATIC1111", counted=40),
         "hires pass, 10 of 20 steps after 20": span_of(20, "AUTOMATIC1111", counted=20, before=20),
         "second-order hires pass, 20 of 40 calls after 40": span_of(20, "AUTOMATIC1111", counted=40, before=40)}
KEPT_TAG = "<lora:a#b:1> c"  # a # in a tag is a part of a file's name here, and begins a comment there


def table(prompt, steps=10, **kwargs):
    """[[last step, text]], with weights written out, as the published examples do."""
    rows = []
    made = plan(prompt, "", Span(steps, rule="Whole steps"), **kwargs)
    for step in range(steps):
        ((sections, _),) = made.at(step).prompts
        text = "".join(piece.text if piece.weight == 1 else f"({piece.text}:{piece.weight:g})"
                       for section in sections for piece in section)
        if rows and rows[-1][1] == text:
            rows[-1][0] = step + 1
        else:
            rows.append([step + 1, text])
    return rows


@pytest.mark.parametrize(("prompt", "expected"), [
    ("test", [[10, "test"]]),
    ("a [b:3]", [[3, "a "], [10, "a b"]]),
    ("a [b: 3]", [[3, "a "], [10, "a b"]]),
    ("[(a:2):3]", [[3, ""], [10, "(a:2)"]]),
    ("a [b : c : 1] d", [[1, "a b  d"], [10, "a  c  d"]]),
    ("a[b:[c:d:2]:1]e", [[1, "abe"], [2, "ace"], [10, "ade"]]),
    ("a [b:.5] c", [[5, "a  c"], [10, "a b c"]]),
    ("a [{b|d{:.5] c", [[10, "a ({b|d{:.5:0.909091) c"]]),  # a bar outside of an alternation spoils the text
    ("[a::0.5]", [[5, "a"], [10, ""]]),
    ("[:b:0.5]", [[5, ""], [10, "b"]]),
    ("[a:b:12]", [[10, "a"]]),
    ("[a:b:1.0]", [[10, "a"]]),
    ("[a:b:1]", [[1, "a"], [10, "b"]]),
    ("[a:b:0]", [[10, "b"]]),
    ("[a:b:-3]", [[10, "b"]]),
    ("[fe|]male", [[1, "female"], [2, "male"]] + [[n, "female" if n % 2 else "male"] for n in range(3, 11)]),
    ("[fe|||]male", [[1, "female"], [4, "male"], [5, "female"], [8, "male"], [9, "female"], [10, "male"]]),
    ("[a|(b:1.5)]", [[n, "a" if n % 2 else "(b:1.5)"] for n in range(1, 11)]),
    ("([a:b:0.5]:1.5)", [[5, "(a:1.5)"], [10, "(b:1.5)"]]),
    ("[[a|b]:c:4]", [[1, "a"], [2, "b"], [3, "a"], [4, "b"], [10, "c"]]),
])
def test_texts_change_at_the_published_steps(prompt, expected):
    assert table(prompt) == expected


def test_the_landscape_of_the_manual_changes_as_printed():
    prompt = ("fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6]"
              "[: in background:0.25] [shoddy:masterful:0.5]")
    assert table(prompt, 100) == [
        [25, "fantasy landscape with a mountain and an oak in foreground shoddy"],
        [50, "fantasy landscape with a lake and an oak in foreground in background shoddy"],
        [60, "fantasy landscape with a lake and an oak in foreground in background masterful"],
        [75, "fantasy landscape with a lake and an oak in background masterful"],
        [100, "fantasy landscape with a lake and a christmas tree in background masterful"]]


@pytest.mark.parametrize(("when", "steps", "last"), [
    ("0.5", 10, 5), ("0.5", 11, 5), ("0.5", 1, 0), ("0.99", 20, 19), ("12", 20, 12), ("12", 10, 10), ("2.0", 10, 10),
    ("1e999", 20, 20), ("-1e999", 20, 0), ("-0.5", 20, 0)])
def test_a_share_is_rounded_down_and_stays_within_the_steps(when, steps, last):
    assert Span(steps).switch(when) == last


def pieces(sections):
    """(text, weight) in order; blanks at the ends of a piece are none to a tokenizer."""
    return [(" ".join(piece.text.split()), round(piece.weight, 6)) for section in sections for piece in section
            if piece.text.strip()]


@pytest.mark.parametrize("row", [row for row in GOLDEN if "raises" not in row and row["prompt"] != KEPT_TAG],
                         ids=lambda row: row["prompt"])
def test_every_call_reads_what_automatic1111_prints(row):
    for name, span in SPANS.items():
        made = plan(without_comments(row["prompt"]), "", span)
        prompts = made.at(0).prompts
        assert [weight for _, weight in prompts] == pytest.approx([part["weight"] for part in row[name]])
        for number, part in enumerate(row[name]):
            texts = [text for count, text in part["runs"] for _ in range(count)]
            for call, text in enumerate(texts):
                wanted = row["attention"].get(text, [[text, 1.0]])
                wanted = [(" ".join(piece.split()), round(weight, 6)) for piece, weight in wanted
                          if piece.strip() and piece != "BREAK"]
                assert pieces(made.at(call).prompts[number][0]) == wanted, f"{name}, call {call}"


def test_what_automatic1111_fails_on_is_text():
    failing = [row["prompt"] for row in GOLDEN if "raises" in row]
    assert failing and all(pieces(plan(text, "", 4).at(0).prompts[0][0]) for text in failing)


def test_before_its_version_1_6_whole_shares_were_steps_and_the_second_pass_began_anew():
    span = span_of(20, "AUTOMATIC1111 before 1.6", counted=40, before=10)
    assert (span.total, span.before) == (10, 0), "the second pass reads the first one's table"
    assert [span.switch(when) for when in ("0.5", "1.0", "2.0", "7")] == [5, 1, 2, 7]


def test_whole_steps_hold_for_all_calls_of_a_step_and_begin_anew():
    made = plan("[a:b:0.5]", "", span_of(4, "Whole steps", counted=8, before=8, order=2))
    assert "".join(made.at(call).prompts[0][0][0][0].text for call in range(7)) == "aaaabbb"


def test_a_plan_past_its_end_stays_at_the_last_step():
    made = plan("[a:b:0.5]", "", 4)
    assert made.at(99) is made.at(3) and made.at(0) is made.at(1) is made.at(2) is not made.at(3)


def test_the_negative_prompt_has_its_own_schedule():
    made = plan("a", "[x:y:2]", 4)
    assert [made.at(call).negative[0][0].text for call in range(4)] == ["x", "x", "x", "y"]


def test_only_several_or_weighted_prompts_are_composed():
    assert [plan(text, "x AND y", 2).composed for text in ("a", "a AND b", "(a:2)", "a:2 AND")] == [
        False, True, False, True]
