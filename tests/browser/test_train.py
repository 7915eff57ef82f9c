"""Training from the first click to a picture drawn with the LoRA, as somebody new would do it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from pipelines.training.run.folder import RunFolder
from tests.pipelines.training.conftest import write_pictures
from ui.results import curves

from . import drive

RUN_MS = 180_000  # a process of its own is started, and imports torch


def said(page: Page, elem_id: str, pattern: str, timeout: int = RUN_MS) -> None:
    expect(drive.box(page, elem_id)).to_have_value(re.compile(pattern), timeout=timeout)


def fill(page: Page, elem_id: str, text: str) -> None:
    field = drive.box(page, elem_id)
    field.fill(text)
    field.blur()


def steps(page: Page, number: str) -> None:
    """Unfold what is folded after every visit, and say how long."""
    page.locator("#train-more-steps .label-wrap").click()
    fill(page, "train-steps", number)


def bring(page: Page, name: str, folder: Path) -> None:
    """Open the trainer and upload the files of a folder under a name."""
    drive.open_tab(page, "Train")
    said(page, "train-verdict", "pictures")
    fill(page, "train-name", name)
    page.locator("#train-upload input[type=file]").first.set_input_files(sorted(folder.iterdir()))


def test_the_example_becomes_a_lora_that_text_to_image_uses_and_a_reload_finds_the_run_again(page):
    drive.open_tab(page, "Train")
    said(page, "train-verdict", r"^24 pictures$")
    expect(page.locator("#train-pictures .thumbnail-item")).to_have_count(24)
    expect(page.locator("#train-pause")).to_be_disabled()
    steps(page, "3")
    fill(page, "train-name", "ink test")
    said(page, "train-forecast", r"3 steps of")
    page.locator("#train-start").click()
    said(page, "train-status", r"^(Training|Finished)")
    page.reload(wait_until="domcontentloaded")
    drive.settled(page)
    drive.open_tab(page, "Train")
    said(page, "train-run", "ink test")
    said(page, "train-status", r"^Finished: step 3 of 3")
    said(page, "train-plan", r"^Forecast: .* s a step")
    expect(page.locator("#train-samples .thumbnail-item").first).to_be_visible()
    said(page, "train-weights", "ink test")
    expect(page.locator("#train-resume")).to_be_disabled()
    for what, curve in (("Learning rate", "learning rate"), ("Gradient norm", "gradient norm"), ("Loss", "held out")):
        page.locator("#train-what").get_by_text(what, exact=True).click()
        chart = page.locator(".curve").locator("visible=true")
        expect(chart).to_contain_text(curve)
        expect(chart.locator(f".mark-line path[stroke='{curves.COLOUR_OF[curve]}']")).to_have_count(1)

    page.locator("#train-use").click()
    expect(page.get_by_role("tab", name="Text to image", exact=True)).to_have_attribute("aria-selected", "true")
    expect(drive.box(page, "txt2img-prompt")).to_have_value(re.compile(r"<lora:ink test:1>"))
    drive.generate(page, "txt2img")
    drive.status(page, "txt2img", r"pictures? in ")
    expect(drive.box(page, "txt2img-infotext")).to_have_value(re.compile("Lora hashes: \"?ink test"))

    drive.open_tab(page, "Train")
    fill(page, "train-name", "another")
    steps(page, "9")
    page.locator("#train-clone").click()
    said(page, "train-message", "The settings of ink test are in the form")
    expect(drive.box(page, "train-name")).to_have_value("ink test")
    expect(drive.box(page, "train-steps")).to_have_value("3")


def test_masks_and_ordinary_pictures_take_part_and_the_tab_says_how_a_run_broke_off_or_failed(page, studio, tmp_path):
    files = write_pictures(tmp_path / "mine", [(64, 64)] * 4)
    Image.new("L", (64, 64), 255).save(files / "1-masklabel.png")
    bring(page, "masked run", files)
    said(page, "train-verdict", "^4 pictures · 1 with a mask$")
    page.locator("#train-more-pictures .label-wrap").click()
    page.locator("#train-masked input").check()
    page.locator("#train-prior-data input").click()
    page.get_by_role("option", name="ink drawings (example)").click()
    steps(page, "100000")
    page.locator("#train-start").click()
    said(page, "train-status", r"^Training: step [1-9]")
    run = studio.runs.card("masked run")
    assert run.config.masked and studio.datasets.name_of(Path(run.config.prior_data)) == "ink drawings (example)"

    os.kill(RunFolder(run.folder).status()["pid"], signal.SIGKILL)
    said(page, "train-status", r"^Broken off: step \d+ of 100000 · .*it was killed.* The steps after 0 are lost\.")
    next(studio.datasets.folder("masked run").glob("3.png")).unlink()
    page.locator("#train-resume").click()
    said(page, "train-status", "^Failed: .*the pictures are not those the run began with")
    expect(page.locator("#train-resume")).to_be_enabled()
    expect(page.locator("#train-stop")).to_be_disabled()


def test_captions_are_typed_over_replaced_in_all_and_taken_back(page, studio, tmp_path):
    files = write_pictures(tmp_path / "mine", [(64, 64)] * 3)
    bring(page, "captioned", files)
    said(page, "train-verdict", "^3 pictures$")
    page.locator("#train-captions .label-wrap").click()
    folder = studio.datasets.folder("captioned")
    cells = page.locator("#train-table [data-testid^='cell-'][data-testid$='-4']:visible")
    tags = page.locator("#train-tags")

    def captions(*wanted: str) -> None:
        """Shown, and written beside the pictures."""
        for cell, text in zip(cells.all(), wanted, strict=True):
            expect(cell).to_contain_text(text)
        assert [(folder / f"{i}.txt").read_text("utf-8") for i in range(3)] == list(wanted)

    expect(cells).to_have_count(3)
    captions("a cat, red, picture 0", "a cat, red, picture 1", "a cat, red, picture 2")
    cells.nth(1).dblclick()
    expect(page.locator("#train-table textarea:focus")).to_be_visible()  # keys before that go nowhere
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("a small dog, green")
    page.keyboard.press("Enter")
    expect(tags).to_contain_text("a small dog")
    captions("a cat, red, picture 0", "a small dog, green", "a cat, red, picture 2")

    tags.get_by_text("red", exact=True).locator("visible=true").click()
    expect(drive.box(page, "train-find")).to_have_value("red")
    fill(page, "train-replace", "dark blue")
    page.locator("#train-swap").click()
    expect(tags).to_contain_text("dark blue")
    captions("a cat, dark blue, picture 0", "a small dog, green", "a cat, dark blue, picture 2")
    longer = studio.prompts.tokens("a cat, dark blue, picture 0").count
    assert longer != studio.prompts.tokens("a cat, red, picture 0").count
    expect(page.locator("#train-table [data-testid='cell-0-3']")).to_have_text(str(longer))

    page.locator("#train-undo").click()
    expect(tags).not_to_contain_text("dark blue")
    captions("a cat, red, picture 0", "a small dog, green", "a cat, red, picture 2")
    fill(page, "train-find", "a bicycle")
    page.locator("#train-swap").click()
    expect(page.get_by_text("no caption has 'a bicycle'")).to_be_visible()


def test_a_run_behind_another_job_says_that_it_waits_and_stop_takes_it_out_of_the_queue(page, studio):
    drive.long_run(page)
    drive.open_tab(page, "Train")
    said(page, "train-verdict", "pictures")
    fill(page, "train-name", "behind")
    steps(page, "3")
    page.locator("#train-start").click()
    said(page, "train-status", "^Waiting: 1 job before this one$")
    expect(page.locator("#train-pause")).to_be_disabled()
    expect(page.locator("#train-resume")).to_be_disabled()
    page.locator("#train-stop").click()
    said(page, "train-status", "^Not begun · Resume begins it.$")
    said(page, "train-answer", "^Taken out of the queue; nothing was trained.$")
    expect(drive.box(page, "train-message")).to_have_value("")
    expect(page.locator("#train-stop")).to_be_disabled()
    assert studio.status().queue_length == 1

    page.locator("#train-resume").click()
    said(page, "train-status", "^Waiting: 1 job before this one$")
    drive.open_tab(page, "Text to image")
    page.locator("#txt2img-stop").click()
    drive.open_tab(page, "Train")
    said(page, "train-status", "^Finished: step 3 of 3")
