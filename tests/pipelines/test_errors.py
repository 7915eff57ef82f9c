"""Names and wrong values in sentences."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import quoted

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("value", "shown"), [
    ("ink", "'ink'"), ("", "''"), ("it's", '"it\'s"'), ("a\nb", "'a\\\\nb'".replace("\\\\", "\\")),
    ("x" * 40, f"'{'x' * 40}'"), ("x" * 41, f"'{'x' * 40}'..."), (7.5, "7.5"), (None, "None"),
    (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1..."),
])
def test_a_value_is_quoted_and_cut_where_it_is_long(value, shown):
    assert quoted(value) == shown


def test_the_length_can_be_said():
    assert quoted("abcdef", 3) == "'abc'..." and quoted("abc", 3) == "'abc'"


def test_no_sentence_cuts_and_quotes_by_itself():
    own = [path.name for side in ("pipelines", "ui") for path in (ROOT / side).rglob("*.py")
           if "]!r}" in path.read_text(encoding="utf-8").replace("nearest[0]!r}", "")]
    assert own == ["errors.py"]
