"""What a visitor does with the page, in a real browser on a real studio with a tiny model."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from playwright.sync_api import expect

from pipelines import metadata
from pipelines.requests import MAX_PROMPT

from .drive import Seen, box, choose, generate, long_run, open_page, open_tab, quick, result_bytes, settled, status

TABS = ("Text to image", "Image to image", "Inpaint", "Image info")


def test_the_page_opens_and_asks_nobody_outside(chromium, url):
    context = chromium.new_context()
    page = context.new_page()
    seen = Seen(page)
    open_page(page, url)
    assert page.title() == "Atelier"
    context.close()
    assert (seen.errors, seen.outside) == ([], [])


def test_a_prompt_becomes_a_picture_that_carries_its_settings(page):
    box(page, "txt2img-prompt").fill("a red cat")
    quick(page)
    generate(page, "txt2img")
    status(page, "txt2img", "^1 picture in ")
    expect(page.locator("#txt2img-picture img")).to_be_visible()
    infotext = box(page, "txt2img-infotext").input_value()
    assert infotext.startswith("a red cat\nSteps: 2,")
    saved = Image.open(io.BytesIO(result_bytes(page, "txt2img")))
    assert saved.format == "PNG" and metadata.read(saved) == infotext
    seed = re.search(r"Seed: (\d+)", infotext)[1]
    expect(page.locator("#txt2img-strip .caption-label")).to_have_text(seed)


def test_small_pictures_are_shown_at_whole_multiples_with_crisp_edges(page):
    quick(page)
    generate(page, "txt2img")
    status(page, "txt2img", "^1 picture in ")
    image = page.locator("#txt2img-picture img")
    expect(image).to_have_css("image-rendering", "pixelated")
    across, down = (image.evaluate(f"it => it.client{side} / it.natural{side}") for side in ("Width", "Height"))
    assert across == down == int(across) > 1


def test_a_batch_shows_its_first_picture_and_the_grid_last(page):
    quick(page)
    box(page, "txt2img-batch_count").fill("2")
    box(page, "txt2img-seed").fill("41")
    generate(page, "txt2img")
    status(page, "txt2img", "^2 pictures in ")
    expect(page.locator("#txt2img-strip .caption-label")).to_have_text(["41", "42", "grid"])
    expect(box(page, "txt2img-infotext")).to_have_value(re.compile("Seed: 41,"))
    expect(page.locator("#txt2img-strip .thumbnail-item.selected")).to_have_text("41")
    page.locator("#txt2img-generate").press("ArrowRight")
    expect(box(page, "txt2img-infotext")).to_have_value(re.compile("Seed: 42,"))
    page.locator("#txt2img-strip button.thumbnail-item").last.click()
    expect(page.locator("#txt2img-picture img")).to_have_js_property("naturalWidth", 128)  # two beside each other


def test_a_picture_is_deleted_from_page_and_disk_after_a_question(page, studio):
    quick(page)
    box(page, "txt2img-batch_count").fill("2")
    box(page, "txt2img-seed").fill("51")
    generate(page, "txt2img")
    status(page, "txt2img", "^2 pictures in ")
    delete, captions = page.locator("#txt2img-delete"), page.locator("#txt2img-strip .caption-label")
    owner = page.evaluate("localStorage.getItem('atelier-owner')")
    page.once("dialog", lambda dialog: dialog.dismiss())
    delete.click()
    status(page, "txt2img", "^Nothing was deleted")
    expect(captions).to_have_count(3)
    page.once("dialog", lambda dialog: dialog.accept())
    delete.click()
    status(page, "txt2img", "^Deleted")
    expect(captions).to_have_text(["52", "grid"])
    expect(box(page, "txt2img-infotext")).to_have_value(re.compile("Seed: 52,"))
    assert sorted(record.seed for record in studio.results.today(owner) if not record.is_grid) == [52]


def test_control_and_enter_generates_from_any_box(page):
    quick(page)
    box(page, "txt2img-negative_prompt").press("Control+Enter")
    status(page, "txt2img", "^1 picture in ")
    assert box(page, "txt2img-negative_prompt").input_value() == ""


def test_nothing_moves_when_a_run_starts_and_ends(page):
    parts = ["#txt2img-generate", "#txt2img-steps", ".stage >> visible=true", "#txt2img-strip", "#txt2img-infotext"]

    def places():
        return [page.locator(part).first.bounding_box() for part in parts]

    quick(page, steps=60)
    before = places()
    generate(page, "txt2img")
    status(page, "txt2img", "^Step ")
    during = places()
    status(page, "txt2img", "^1 picture in ")
    assert before == during == places()


def test_stop_answers_at_once_and_the_next_run_works(page):
    long_run(page)
    expect(page).to_have_title(re.compile(r" · Atelier$"))
    page.locator("#txt2img-stop").click()
    status(page, "txt2img", "^Stopped")
    expect(page).to_have_title("Atelier")
    quick(page)
    box(page, "txt2img-batch_count").fill("1")
    generate(page, "txt2img")
    status(page, "txt2img", "^1 picture in ")


def test_stop_right_after_generate_is_not_lost(page):
    for name, value in (("steps", "150"), ("batch_count", "16"), ("width", "256")):
        box(page, f"txt2img-{name}").fill(value)
    page.evaluate("for (const each of ['generate', 'stop']) document.querySelector(`#txt2img-${each}`).click()")
    status(page, "txt2img", "^Stopped")
    page.locator("#txt2img-stop").click()
    status(page, "txt2img", "^Nothing is running")
    box(page, "txt2img-batch_count").fill("1")
    quick(page)
    generate(page, "txt2img")  # which the Stop before it does not hit
    status(page, "txt2img", "^1 picture in ")


PASTE = """(words) => {
    const given = new DataTransfer();
    given.setData("text/plain", words);
    given.items.add(new File([new Uint8Array(8)], "cells.png", { type: "image/png" }));
    const paste = new ClipboardEvent("paste", { clipboardData: given, bubbles: true, cancelable: true });
    return document.querySelector("#img2img-prompt textarea").dispatchEvent(paste);
}"""


def test_text_that_brings_a_picture_of_itself_along_is_pasted_as_text(page):
    open_tab(page, "Image to image")
    assert page.evaluate(PASTE, "a red fox")  # left to the browser
    assert not page.evaluate(PASTE, "")  # a picture alone is taken, wherever the cursor is
    expect(page.get_by_test_id("toast-body")).to_be_visible()  # these eight bytes are none


def test_skip_goes_on_with_the_next_picture(page):
    long_run(page)
    status(page, "txt2img", "picture 1 of 16")
    page.locator("#txt2img-skip").click()
    status(page, "txt2img", "picture [2-9] of 16")
    expect(page.locator("#txt2img-strip .caption-label")).to_have_count(0)
    page.locator("#txt2img-stop").click()
    status(page, "txt2img", "^Stopped")


def test_tokens_are_counted_and_what_does_not_fit_is_struck_through(page):
    box(page, "txt2img-prompt").fill("a red cat")
    expect(box(page, "txt2img-prompt-tokens")).to_have_value(re.compile(r"^\d+/\d+$"))
    few = box(page, "txt2img-prompt-tokens").input_value()
    box(page, "txt2img-prompt").fill("a red cat and a dog")
    expect(box(page, "txt2img-prompt-tokens")).not_to_have_value(few)
    box(page, "txt2img-prompt").fill("")
    expect(box(page, "txt2img-prompt-tokens")).to_have_value("")


def test_a_picture_is_sent_on_with_all_its_settings(page):
    box(page, "txt2img-prompt").fill("a red cat")
    quick(page, steps=3)
    box(page, "txt2img-seed").fill("77")
    generate(page, "txt2img")
    status(page, "txt2img", "^1 picture in ")
    page.locator("#txt2img-send-img2img").click()
    expect(page.get_by_role("tab", name="Image to image")).to_have_attribute("aria-selected", "true")
    for name, value in {"prompt": "a red cat", "steps": "3", "seed": "77"}.items():
        expect(box(page, f"img2img-{name}")).to_have_value(value)
    expect(page.locator("#img2img-source img")).to_be_visible()
    generate(page, "img2img")
    status(page, "img2img", "^1 picture in ")
    page.locator("#img2img-compare").click()
    expect(page.locator("#img2img-before-after")).to_be_visible()


def test_image_to_image_follows_the_shape_of_the_picture(page, tmp_path):
    Image.effect_noise((90, 60), 40).save(tmp_path / "wide.png")
    open_tab(page, "Image to image")
    choose(page, "img2img", tmp_path / "wide.png")
    quick(page, "img2img")
    generate(page, "img2img")
    status(page, "img2img", "^1 picture in ")
    made = Image.open(io.BytesIO(result_bytes(page, "img2img")))
    assert made.width > made.height
    expect(box(page, "img2img-width")).to_have_value(str(made.width))


def test_another_model_is_picked_draws_and_is_remembered(page):
    box(page, "txt2img-guidance_scale").fill("3")  # a person's own value, which the switch must leave
    expect(page.locator("#tab-txt2img .card")).to_have_count(0)
    page.locator("#model input").click()
    page.get_by_role("option", name="The other one").click()
    expect(box(page, "model-line")).to_have_value(re.compile("draws in four steps$"))
    expect(box(page, "txt2img-steps")).to_have_value("4")  # nobody had changed it, so it follows the model
    expect(box(page, "txt2img-guidance_scale")).to_have_value("3")
    cards = page.locator("#tab-txt2img .card")
    expect(cards.locator("visible=true")).to_have_text(["a red cat"])  # its own, less the one that would be refused
    cards.first.click()
    status(page, "txt2img", "^1 picture in ")
    expect(box(page, "txt2img-infotext")).to_have_value(
        re.compile("^a red cat\nSteps: 4, .*CFG scale: 3, .*Seed: 8, .*Model: other-sd"))
    page.reload(wait_until="domcontentloaded")
    settled(page)
    expect(page.locator("#model input")).to_have_value(re.compile("^The other one"))
    expect(box(page, "model-line")).to_have_value(re.compile("draws in four steps$"))


def test_a_bad_value_is_said_beside_the_button_and_nothing_is_lost(page):
    long = "cat " * (MAX_PROMPT // 4 + 1)
    box(page, "txt2img-prompt").fill(long)
    generate(page, "txt2img")
    status(page, "txt2img", "^Prompt: ")
    expect(page.get_by_test_id("toast-body")).to_contain_text("Prompt: ")
    assert box(page, "txt2img-prompt").input_value() == long


def test_a_file_that_is_no_picture_is_refused_in_words(page, tmp_path):
    (tmp_path / "no.png").write_text("no picture")
    open_tab(page, "Image to image")
    page.locator("#img2img-source input[type=file]").first.set_input_files(str(tmp_path / "no.png"))
    expect(page.get_by_test_id("toast-body")).to_contain_text("Picture: ")


def test_image_info_shows_texts_as_text_only(page, tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "<img src=x onerror=document.title='owned'>\nSteps: 7, Sampler: Euler a, Seed: 9, "
                                 "Size: 64x64, Odd thing: <b>1</b>")
    texts.add_text("Comment", "<script>document.title='owned'</script>")
    Image.new("RGB", (64, 64)).save(tmp_path / "in.png", pnginfo=texts)
    open_tab(page, "Image info")
    choose(page, "image_info", tmp_path / "in.png")
    expect(box(page, "image_info-parameters")).to_have_value(re.compile("^<img src=x"))
    expect(box(page, "image_info-others")).to_have_value(re.compile("<script>"))
    expect(box(page, "image_info-unknown")).to_have_value(re.compile("Odd thing: <b>1</b>"))
    assert page.title() == "Atelier"
    page.locator("#image_info-send-txt2img").click()
    expect(box(page, "txt2img-steps")).to_have_value("7")
    expect(box(page, "txt2img-seed")).to_have_value("9")


@pytest.mark.parametrize("width", [390, 1024])
def test_nothing_scrolls_sideways(visit, width):
    page = visit(width, 844)
    for label in TABS:
        tab = page.get_by_role("tab", name=label, exact=True)
        if not tab.is_visible():
            page.locator("#tabs .overflow-menu > button").click()
            page.locator("#tabs .overflow-dropdown").get_by_text(label, exact=True).click()
        else:
            tab.click()
        expect(page.locator(".workspace .results").locator("visible=true").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, label
        assert page.evaluate("document.body.scrollWidth") <= width, label


def test_the_main_button_stays_in_reach_on_a_phone(visit):
    page = visit(390, 844)
    page.mouse.wheel(0, 1200)
    place = page.locator("#txt2img-generate").bounding_box()
    assert 844 - 80 < place["y"] < 844 and place["height"] >= 40


def test_every_control_has_a_name(page):
    page.locator("#txt2img-more > button").click()
    nameless = page.evaluate("""() => [...document.querySelectorAll('#tab-txt2img input, #tab-txt2img textarea, '
        + '#tab-txt2img button, #tab-txt2img select')].filter((each) => each.offsetParent && !(each.ariaLabel
        || each.labels?.length || (each.matches('button') && each.textContent.trim()) || each.title
        || each.querySelector('img[alt]'))).map((each) => each.outerHTML)""")
    assert nameless == []


def test_the_same_pictures_for_the_same_seed(page):
    quick(page)
    box(page, "txt2img-seed").fill("3")
    pictures = []
    for _ in range(2):
        generate(page, "txt2img")
        status(page, "txt2img", "^1 picture in ")
        pictures.append(np.asarray(Image.open(io.BytesIO(result_bytes(page, "txt2img")))))
    assert np.array_equal(*pictures)
