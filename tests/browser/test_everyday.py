"""The everyday tools as a visitor uses them: pasted settings, a grid, hires fix, many prompts, comparing, upscaling."""

from __future__ import annotations

import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from .drive import box, choose, generate, open_tab, result, status

SETTINGS = ("a blue house\nNegative prompt: red, (cat:1.2)\nSteps: 3, Sampler: Euler a, Schedule type: Karras, "
            "CFG scale: 4.5, Seed: 77, Size: 72x64, Model hash: 0123456789, Model: dreams, "
            "Lucky number: 13, Version: v1.9.0")


@pytest.fixture
def quick(page):
    """A visitor whose pictures take two steps."""
    box(page, "txt2img-prompt").fill("a red cat")
    for name, value in (("steps", "2"), ("seed", "5")):
        box(page, f"txt2img-{name}").fill(value)
        box(page, f"txt2img-{name}").press("Tab")
    return page


def unfold(page, elem_id):
    page.locator(f"#{elem_id} > button").click()


def made(page, task, count):
    """Wait for the end of a run that says how many pictures it made."""
    status(page, task, rf"^{count} pictures? in ")


def settings_of(page, task, pattern):
    expect(box(page, f"{task}-infotext")).to_have_value(re.compile(pattern, re.DOTALL))


def test_pasted_settings_fill_the_form_and_what_was_not_used_is_listed(page):
    box(page, "txt2img-prompt").press_sequentially("no settings")
    expect(box(page, "txt2img-prompt-tokens")).to_have_value(re.compile("^[1-9]"))
    box(page, "txt2img-prompt").fill(SETTINGS)
    expect(box(page, "txt2img-seed")).to_have_value("77")
    for name, value in (("prompt", "a blue house"), ("negative_prompt", "red, (cat:1.2)"), ("steps", "3"),
                        ("guidance_scale", "4.5"), ("width", "72"), ("height", "64")):
        expect(box(page, f"txt2img-{name}")).to_have_value(value)
    expect(box(page, "txt2img-notices")).to_have_value(re.compile(
        "Not used: Lucky number 13.*Model: dreams is not known here", re.DOTALL))
    generate(page, "txt2img")
    made(page, "txt2img", 1)
    settings_of(page, "txt2img", "a blue house.*Sampler: Euler a, Schedule type: Karras, CFG scale: 4.5, Seed: 77")
    assert result(page, "txt2img").size == (72, 64)


def test_a_grid_says_what_it_makes_and_ends_with_its_labelled_sheet(quick):
    unfold(quick, "txt2img-grid")
    for axis, field, values in (("x", "Steps", "1-2"), ("y", "Seed", "7, 8")):
        quick.locator(f"#txt2img-grid-{axis} input").click()
        quick.locator(f"#txt2img-grid-{axis}").get_by_role("option", name=field, exact=True).click()
        box(quick, f"txt2img-grid-{axis}-values").fill(values)
    expect(box(quick, "txt2img-grid-line")).to_have_value(re.compile(r"^4 pictures \(2 x 2 on 1 sheet\)"))
    generate(quick, "txt2img")
    made(quick, "txt2img", 4)
    expect(quick.locator("#txt2img-strip .thumbnail-item")).to_have_count(5)
    sheet = result(quick, "txt2img")
    assert sheet.width > 128 and sheet.height > 128


def test_hires_fix_and_other_changes_of_a_finished_picture_keep_its_seed_and_the_form(quick):
    generate(quick, "txt2img")
    made(quick, "txt2img", 1)
    box(quick, "txt2img-seed").fill("99")
    quick.locator("#txt2img-again-hires").click()
    settings_of(quick, "txt2img", "Seed: 5,.*Hires upscale: 2")
    made(quick, "txt2img", 1)
    assert result(quick, "txt2img").size == (128, 128)
    quick.locator("#txt2img-again-steps").click()
    settings_of(quick, "txt2img", "Steps: 3,.*Seed: 5,.*Hires upscale: 2")
    expect(box(quick, "txt2img-seed")).to_have_value("99")


def test_each_line_of_a_file_of_prompts_becomes_a_picture(quick, tmp_path):
    (tmp_path / "prompts.txt").write_text("a house\n# a remark\na blue cat\n")
    unfold(quick, "txt2img-many")
    quick.locator("#txt2img-many input[type=file]").set_input_files(tmp_path / "prompts.txt")
    expect(box(quick, "txt2img-many-line")).to_have_value(re.compile("^Generate makes 2 pictures"))
    generate(quick, "txt2img")
    made(quick, "txt2img", 2)
    settings_of(quick, "txt2img", "^a (house|blue cat)\n")


def test_a_pinned_picture_is_compared_with_any_other(quick):
    generate(quick, "txt2img")
    made(quick, "txt2img", 1)
    quick.locator("#txt2img-pin").click()
    expect(quick.locator("#txt2img-pin")).to_have_text("Pinned: 5")
    quick.locator("#txt2img-again-seed").click()
    settings_of(quick, "txt2img", "Seed: 6,")
    made(quick, "txt2img", 1)
    quick.locator("#txt2img-compare").click()
    expect(quick.locator("#txt2img-before-after img").first).to_be_visible()
    quick.locator("#txt2img-compare").click()
    expect(quick.locator("#txt2img-before-after")).to_be_hidden()


def test_a_picture_is_enlarged_in_tiles_and_says_its_size_before(page, tmp_path):
    Image.linear_gradient("L").resize((80, 64)).convert("RGB").save(tmp_path / "a.png")
    open_tab(page, "Upscale")
    choose(page, "upscale", tmp_path / "a.png")
    expect(box(page, "upscale-size")).to_have_value("80 × 64 px becomes 160 × 128 px")
    generate(page, "upscale")
    made(page, "upscale", 1)
    assert result(page, "upscale").size == (160, 128)
    settings_of(page, "upscale", "Upscale by: 2")
