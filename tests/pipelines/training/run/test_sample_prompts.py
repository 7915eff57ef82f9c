"""Sample prompts with the flags of kohya's trainer."""

from __future__ import annotations

import pytest

from pipelines.errors import RequestError
from pipelines.training.request import from_table
from pipelines.training.run.sample_prompts import SamplePrompt, parse


def test_flags_become_values_and_leave_the_prompt():
    line = "a red cat, well--known --n ugly, dark --w 512 --h 768 --d 7 --l 5.5 --s 12"
    assert parse(line) == SamplePrompt(line, "a red cat, well--known", dict(
        negative_prompt="ugly, dark", width=512, height=768, seed=7, guidance_scale=5.5, steps=12))
    assert parse("a cat -- a dog") == SamplePrompt("a cat -- a dog", "a cat -- a dog")
    assert parse("a cat --D -1 --N").values == {"negative_prompt": ""}


def test_what_is_not_read_is_told():
    found = parse("a cat --w 515 --ss euler_a --ar 16:9")
    assert (found.prompt, found.values) == ("a cat", {"width": 512})
    assert found.unused == ("--ss euler_a", "--ar 16:9", "--w 515 (sides are multiples of 8 px)")
    twice = parse("a cat --n dark --n blur")
    assert (twice.values, twice.unused) == ({"negative_prompt": "blur"}, ("--n dark",))


def test_a_flag_without_a_number_is_refused_with_the_config(tmp_path):
    table = {"model": "demo", "data": "x", "output": "y", "name": "z", "sample_prompts": ["a cat --w wide"]}
    with pytest.raises(RequestError, match="--w wants a number, not 'wide'"):
        from_table(table, tmp_path)
