"""Two pages of the lab in a real browser: a run that is trained, found again after a reload, and drawn from."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from pipelines.studio.works import AskLab
from ui.results.curves import COLOURS

from .drive import box, open_tab, settled, status


def open_page_of_the_lab(page, label):
    tab = page.locator("#lab-pages").get_by_role("tab", name=label, exact=True)
    tab.click()
    expect(tab).to_have_attribute("aria-selected", "true")


def test_a_training_run_survives_a_reload_and_can_be_drawn_from(page):
    open_tab(page, "Lab")
    open_page_of_the_lab(page, "Train")
    page.locator("#lab-train-more .label-wrap").click()
    box(page, "lab-train-width").fill("16")
    box(page, "lab-train-samples").fill("2")
    box(page, "lab-train-minutes").fill("30")
    page.locator("#lab-train-run").click()
    status(page, "lab-train", "^Step ")
    expect(page.locator("#lab-train-pictures img").first).to_be_visible()
    page.reload()
    settled(page)
    page.seen.errors.clear()  # the old page complains that its stream of news was cut off
    expect(page.locator("#lab-pages").get_by_role("tab", name="Train", exact=True)).to_have_attribute(
        "aria-selected", "true")
    status(page, "lab-train", "^Step ")
    page.locator("#lab-train-stop").click()
    status(page, "lab-train", "^Stopped")
    expect(page.locator("#lab-train-result-loss canvas, #lab-train-result-loss svg").first).to_be_visible()

    open_page_of_the_lab(page, "Sample")
    page.locator("#lab-sample-run_name input").click()
    page.get_by_role("option").first.click()
    box(page, "lab-sample-label").fill("3")
    box(page, "lab-sample-steps").fill("4")
    page.locator("#lab-sample-run").click()
    status(page, "lab-sample", "^Done in ")
    expect(page.locator("#lab-sample-pictures img").first).to_be_visible()


def test_settings_go_from_the_lab_to_the_real_tab(page):
    open_tab(page, "Lab")
    open_page_of_the_lab(page, "Denoising")
    box(page, "lab-film-prompt").fill("a green moon")
    box(page, "lab-film-steps").fill("7")
    page.locator("#lab-film-open").click()
    expect(page.get_by_role("tab", name="Text to image")).to_have_attribute("aria-selected", "true")
    expect(box(page, "txt2img-prompt")).to_have_value("a green moon")
    expect(box(page, "txt2img-steps")).to_have_value("7")


def test_a_plot_draws_the_curves_of_the_second_run_in_their_colours(page):
    open_tab(page, "Lab")
    open_page_of_the_lab(page, "LoRA")
    box(page, "lab-lora-updates").fill("7")
    lines = page.locator("#lab-lora-result-loss .mark-line path")
    for ranks in ("1, 2", "4"):
        box(page, "lab-lora-ranks").fill(ranks)
        page.locator("#lab-lora-run").click()
        names = [f"rank {rank}" for rank in ranks.split(", ")]
        expect(page.locator("#lab-lora-result-loss-legend span")).to_have_text(names)
        expect(lines).to_have_count(len(names))
        assert [line.get_attribute("stroke") for line in lines.all()] == list(COLOURS[:len(names)])


@pytest.mark.parametrize("form", ["webp", "gif"])
def test_an_animation_says_on_image_info_how_it_was_made_and_its_settings_go_to_text_to_image(page, studio, form):
    job = studio.submit(AskLab("film", {"prompt": "a green moon", "steps": 3, "seed": 11, "animation": form}))
    job.wait(120)
    open_tab(page, "Image info")
    page.locator("#image_info-source input[type=file]").first.set_input_files(str(job.events[-2].path))
    expect(box(page, "image_info-parameters")).to_have_value(re.compile("^a green moon\nSteps: 3, "))
    expect(box(page, "image_info-unknown")).to_have_value(re.compile("Lab page: film"))
    page.locator("#image_info-send-txt2img").click()
    expect(box(page, "txt2img-prompt")).to_have_value("a green moon")
    expect(box(page, "txt2img-seed")).to_have_value("11")
