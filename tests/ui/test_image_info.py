"""What Image info says of a picture."""

from __future__ import annotations

from pipelines.metadata import parse_any
from ui.tabs.image_info import rows, unused


def test_settings_have_the_names_of_the_page_in_its_order_and_blanks_are_left_out():
    said = {"clip_skip": 2, "guidance_scale": 5.0, "negative_prompt": "", "prompt": "a cat", "mask_blur": 4}
    assert rows(said) == [["Prompt", "a cat"], ["Guidance scale", "5"], ["Clip skip", "2"], ["Mask blur (px)", "4"]]


def test_long_values_are_cut():
    assert len(rows({"prompt": "x" * 100_000})[0][1]) == 20_000


def test_one_strength_is_listed_that_of_the_second_pass_where_there_is_one():
    both = {"strength": 0.5, "hires_strength": 0.5}
    assert rows(both) == [["Strength", "0.5"]]
    assert rows({**both, "hires_scale": 2.0}) == [["Hires scale", "2"], ["Hires strength", "0.5"]]


def test_what_the_text_does_not_say_is_not_listed():
    silent = parse_any("a cat\nSteps: 9, Seed: 1, Size: 64x64, Version: v1").parsed
    assert silent.fields["clip_skip"] == 1  # what the text means, and a form takes
    assert "Clip skip" not in [title for title, _ in rows(silent.fields, silent.implied)]
    told = parse_any("a cat\nSteps: 9, Seed: 1, Clip skip: 1, Version: v1").parsed
    assert ["Clip skip", "1"] in rows(told.fields, told.implied)


def test_what_is_not_used_is_named_once_and_what_changes_the_picture_comes_first():
    control = '"Module: canny, Model: control_canny [d14c016b], Weight: 1, Guidance Start: 0, Guidance End: 1, Mode: x"'
    found = parse_any(f"a cat\nSteps: 9, Sampler: Euler Max, Seed: 1, ControlNet 0: {control}, Pad conds: True").parsed
    assert unused(found) == [
        "Sampler: 'Euler Max' has no equivalent here.",
        f"ControlNet 0: {control[1:-1]} · Pictures that guide another one are not read here.", "Pad conds: True"]
