"""What Image info says of a picture."""

from __future__ import annotations

from ui.tabs.image_info import rows


def test_settings_have_the_names_of_the_page_in_its_order_and_blanks_are_left_out():
    said = {"clip_skip": 2, "guidance_scale": 5.0, "negative_prompt": "", "prompt": "a cat", "mask_blur": 4}
    assert rows(said) == [["Prompt", "a cat"], ["Guidance scale", "5"], ["Clip skip", "2"], ["Mask blur (px)", "4"]]


def test_long_values_are_cut():
    assert len(rows({"prompt": "x" * 100_000})[0][1]) == 20_000


def test_one_strength_is_listed_that_of_the_second_pass_where_there_is_one():
    both = {"strength": 0.5, "hires_strength": 0.5}
    assert rows(both) == [["Strength", "0.5"]]
    assert rows({**both, "hires_scale": 2.0}) == [["Hires scale", "2"], ["Hires strength", "0.5"]]
