"""What a page keeps: what was typed, a running job, where one was; for each visitor their own."""

from __future__ import annotations

import io
import re
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import expect

from pipelines import metadata
from pipelines.requests import Txt2Img, make

from .drive import box, generate, long_run, open_page, open_tab, result_bytes, settled, status
from .line import Line


def test_a_reload_in_mid_run_goes_on_showing_it(page):
    long_run(page)
    page.reload(wait_until="domcontentloaded")
    status(page, "txt2img", "^Step ")
    page.seen.errors.clear()  # the page that went away complains that its connections ended
    expect(page.locator("#txt2img-picture img")).to_be_visible()
    page.locator("#txt2img-stop").click()
    status(page, "txt2img", "^Stopped")


def test_a_page_that_slept_takes_its_job_up_again_and_shows_what_was_made_meanwhile(chromium, url, studio):
    line = Line(urlsplit(url).port)
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    open_page(page, line.url)
    for name, value in (("steps", "150"), ("batch_count", "3")):
        box(page, f"txt2img-{name}").fill(value)
    generate(page, "txt2img")
    status(page, "txt2img", "^Step ")
    line.cut()
    visitor = page.evaluate("localStorage.getItem('atelier-owner') + '.' + sessionStorage.getItem('atelier-page')")
    assert not studio.current(visitor, "txt2img").wait(120).stopped
    assert page.locator("#txt2img-strip .caption-label").count() < 3  # it knows of nothing
    line.mend()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as when a phone is unlocked
    status(page, "txt2img", "^3 pictures in ")
    expect(page.locator("#txt2img-strip .caption-label")).to_have_count(4)  # and the grid of them
    generate(page, "txt2img")  # as if nothing had been
    status(page, "txt2img", "^Step ")
    page.locator("#txt2img-stop").click()
    status(page, "txt2img", "^Stopped")
    context.close()
    line.close()


def test_a_page_that_is_closed_does_not_keep_the_others_waiting(page, studio, monkeypatch):
    monkeypatch.setattr("pipelines.queue.job.PAGE_LEFT_S", 0.5)
    long_run(page)
    visitor = page.evaluate("localStorage.getItem('atelier-owner') + '.' + sessionStorage.getItem('atelier-page')")
    page.goto("about:blank")
    page.seen.errors.clear()  # the page that went away complains that its connections ended
    studio.submit(make(Txt2Img, prompt="a cat", steps=1)).wait(120)  # whose turn comes no sooner
    assert studio.current(visitor, "txt2img").stopped


def test_what_was_typed_survives_a_reload(page):
    box(page, "txt2img-prompt").fill("a red fox")
    box(page, "txt2img-steps").fill("37")
    page.locator("#txt2img-more > button").click()
    box(page, "txt2img-clip_skip").fill("2")
    page.locator("#txt2img-grid > button").click()
    box(page, "txt2img-grid-x-values").fill("1-3")
    page.locator("#txt2img-many > button").click()
    box(page, "txt2img-many-prompts").fill("a cat\na dog")
    open_tab(page, "Image to image")
    box(page, "img2img-prompt").fill("a blue fox")
    box(page, "img2img-strength").fill("0.3")
    settled(page)
    page.reload(wait_until="domcontentloaded")
    settled(page)
    expect(page.get_by_role("tab", name="Image to image")).to_have_attribute("aria-selected", "true")
    expect(box(page, "img2img-prompt")).to_have_value("a blue fox")
    expect(box(page, "img2img-strength")).to_have_value("0.3")
    open_tab(page, "Text to image")
    expect(box(page, "txt2img-prompt")).to_have_value("a red fox")
    expect(box(page, "txt2img-steps")).to_have_value("37")
    expect(box(page, "txt2img-clip_skip")).to_have_value("2")
    expect(box(page, "txt2img-clip_skip")).to_be_visible()  # "More" is open again
    expect(box(page, "txt2img-grid-x-values")).to_have_value("1-3")
    expect(box(page, "txt2img-many-prompts")).to_have_value("a cat\na dog")


def test_two_windows_of_one_browser_keep_what_was_typed_in_each(page):
    box(page, "txt2img-prompt").fill("a red fox")
    other = page.context.new_page()
    open_page(other, page.url)
    expect(box(other, "txt2img-prompt")).to_have_value("a red fox")  # a new window begins with the newest
    box(other, "txt2img-prompt").fill("a blue dog")
    other.wait_for_function("localStorage.getItem('atelier-typed').includes('a blue dog')")
    page.reload(wait_until="domcontentloaded")
    settled(page)
    expect(box(page, "txt2img-prompt")).to_have_value("a red fox")
    other.close()
    page.seen.errors.clear()  # the page that went away complains that its connections ended


def test_a_reload_on_a_phone_comes_back_to_a_tab_from_the_menu(visit):
    page = visit(390, 844)
    page.locator("#tabs .overflow-menu > button").click()
    page.locator("#tabs .overflow-dropdown").get_by_text("Image info", exact=True).click()
    tab = page.get_by_role("tab", name="Image info", exact=True)
    expect(tab).to_have_attribute("aria-selected", "true")
    page.wait_for_function("localStorage.getItem('atelier-place')?.includes('image_info')")
    page.reload(wait_until="domcontentloaded")
    settled(page)
    expect(tab).to_have_attribute("aria-selected", "true")


def test_a_damaged_store_falls_back_to_defaults(chromium, url):
    context = chromium.new_context()
    for key, value in {"atelier-typed": "broken", "atelier-place": "["}.items():
        context.add_init_script(f"localStorage.setItem('{key}', '{value}')")
    page = context.new_page()
    open_page(page, url)
    expect(box(page, "txt2img-steps")).to_have_value(re.compile(r"^\d+$"))
    expect(box(page, "txt2img-prompt")).to_have_value("")
    context.close()


def test_two_visitors_at_once_get_their_own_pictures(visit):
    pages = {"a red cat": visit(), "a blue dog": visit()}
    for prompt, page in pages.items():
        box(page, "txt2img-prompt").fill(prompt)
        box(page, "txt2img-steps").fill("40")
    for page in pages.values():
        generate(page, "txt2img")
    for prompt, page in pages.items():
        status(page, "txt2img", "^1 picture in ")
        expect(box(page, "txt2img-infotext")).to_have_value(re.compile(rf"^{prompt}\n"))
        assert metadata.read(Image.open(io.BytesIO(result_bytes(page, "txt2img")))).startswith(f"{prompt}\n")
    for page in pages.values():
        page.reload(wait_until="domcontentloaded")
        settled(page)
        expect(page.locator("#txt2img-strip .caption-label")).to_have_count(1)


# Types into a control as soon as it can be seen, and answers what stands in it ten frames later.
TYPE_AT_ONCE = """([selector, value]) => { window.typed = new Promise((resolve) => {
    const look = () => {
        const field = document.querySelector(selector);
        if (!field || getComputedStyle(field).visibility !== "visible") return requestAnimationFrame(look);
        field.value = value;
        field.dispatchEvent(new Event("input", { bubbles: true }));
        const after = (frames) => (frames ? requestAnimationFrame(() => after(frames - 1)) : resolve(field.value));
        after(10);
    };
    new MutationObserver((_, watch) => document.querySelector(selector) && (watch.disconnect(), look()))
        .observe(document.body, { childList: true, subtree: true });
}) }"""


def test_what_is_typed_into_a_part_that_just_opened_stays(page):
    for control, opener in {"txt2img-clip_skip": page.locator("#txt2img-more > button"),
                            "img2img-steps": page.get_by_role("tab", name="Image to image")}.items():
        page.evaluate(TYPE_AT_ONCE, [f"#{control} input[type=number]", "2"])
        opener.click()
        assert page.evaluate("window.typed") == "2", control
