"""What is read at which step, against AUTOMATIC1111's published tables."""

from __future__ import annotations

import pytest

from pipelines.prompts.schedule import plan, switch


def table(prompt, steps=10, **kwargs):
    """[[last step, text]], with weights written out, as the published examples do."""
    rows = []
    made = plan(prompt, "", steps, **kwargs)
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
    ("a [{b|d{:.5] c", [[5, "a  c"], [10, "a {b|d{ c"]]),
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
    assert switch(when, steps) == last


def test_late_changes_one_step_later_as_its_own_pictures_do():
    assert table("[a:b:5]", late=True) == [[6, "a"], [10, "b"]]
    assert table("[a|b]", 4, late=True) == [[2, "a"], [3, "b"], [4, "a"]]


def test_a_plan_past_its_end_stays_at_the_last_step():
    made = plan("[a:b:0.5]", "", 4)
    assert made.at(99) is made.at(3) and made.at(0) is made.at(1) and made.at(1) is not made.at(2)


def test_the_negative_prompt_has_its_own_schedule():
    made = plan("a", "[x:y:2]", 4)
    assert [made.at(step).negative[0][0].text for step in range(4)] == ["x", "x", "y", "y"]


def test_only_several_or_weighted_prompts_are_composed():
    assert [plan(text, "x AND y", 2).composed for text in ("a", "a AND b", "(a:2)", "a:2 AND")] == [
        False, True, False, True]
