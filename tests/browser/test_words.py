"""Weights by key, earlier prompts by arrow, marks, presets and the page's language, as a person meets them."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from .drive import SLOW_MS, Seen, box, generate, open_page, settled, status


def cursor(page, start, end=None):
    page.locator("#txt2img-prompt textarea").evaluate("(area, [start, end]) => area.setSelectionRange(start, end)",
                                                      [start, start if end is None else end])


def test_control_and_arrows_change_the_weight_of_words(page):
    prompt = page.locator("#txt2img-prompt textarea")
    prompt.fill("a red fox, blue")
    cursor(page, 4)
    for keys, text in [("Up Up", "a (red:1.2) fox, blue"), ("Down Down Down", "a (red:0.9) fox, blue"),
                       ("Up", "a red fox, blue")]:
        for key in keys.split():
            prompt.press(f"Control+Arrow{key}")
        expect(prompt).to_have_value(text)
    cursor(page, 2, 9)
    prompt.press("Control+ArrowUp")
    expect(prompt).to_have_value("a (red fox:1.1), blue")
    prompt.press("Control+z")
    expect(prompt).to_have_value("a red fox, blue")
    prompt.fill("a <lora:ink:1> fox")
    cursor(page, 6)
    prompt.press("Control+ArrowDown")
    expect(prompt).to_have_value("a <lora:ink:0.95> fox")


def test_what_is_wrong_with_a_prompt_is_marked_while_it_is_typed(page):
    prompt = page.locator("#txt2img-prompt textarea")
    prompt.fill("a (red fox <lora:none:1>")
    expect(box(page, "txt2img-prompt-faults")).to_have_value(re.compile("no partner.*no LoRA called none"))
    expect(page.locator(".marks mark")).to_have_text(["(", "<lora:none:1>"])
    prompt.fill("a (red) fox")
    expect(page.locator(".marks mark")).to_have_count(0)
    expect(page.locator("#txt2img-prompt-faults")).to_be_hidden()


def test_arrows_bring_back_earlier_prompts_after_a_reload(page):
    prompt = page.locator("#txt2img-prompt textarea")
    box(page, "txt2img-steps").fill("1")
    for text in ("a first fox", "a second fox"):
        prompt.fill(text)
        generate(page, "txt2img")
        status(page, "txt2img", "^1 picture in ")
    page.reload(wait_until="domcontentloaded")
    settled(page)
    page.seen.errors.clear()  # the page that went away complains that its connections ended
    prompt.fill("a draft")
    cursor(page, 0)
    for key, text in [("Up", "a second fox"), ("Up", "a first fox"), ("Up", "a first fox"), ("Down", "a second fox"),
                      ("Down", "a draft")]:
        prompt.press(f"Arrow{key}")
        expect(prompt).to_have_value(text)


def test_a_preset_brings_back_its_settings(page):
    page.locator("#txt2img-presets > button").click()
    name = page.locator("#txt2img-preset input")
    name.fill("quick")
    name.press("Enter")
    box(page, "txt2img-steps").fill("3")
    page.locator("#txt2img-preset-save").click()
    expect(box(page, "txt2img-preset-line")).to_have_value("Saved as quick.")
    page.reload(wait_until="domcontentloaded")
    settled(page)
    page.seen.errors.clear()
    box(page, "txt2img-steps").fill("9")
    name.click()
    page.locator("#txt2img-preset").get_by_role("option", name="quick").click()
    expect(box(page, "txt2img-steps")).to_have_value("3")


def test_each_model_has_its_own_presets_and_takes_its_default_when_it_is_chosen(page, studio):
    def choose(title):
        page.locator("#model input").click()
        page.locator("#model").get_by_role("option", name=re.compile(title)).click()

    first = studio.collection.default_card().title
    page.locator("#txt2img-presets > button").click()
    name = page.locator("#txt2img-preset input")
    choose("The other one")
    expect(box(page, "txt2img-steps")).to_have_value("4")
    name.fill("fine")
    name.press("Enter")
    box(page, "txt2img-steps").fill("33")
    page.locator("#txt2img-preset-default").click()
    expect(box(page, "txt2img-preset-line")).to_have_value(re.compile("^fine is taken"))
    choose(first)
    expect(name).to_have_value("")
    box(page, "txt2img-steps").fill("9")
    name.click()
    expect(page.locator("#txt2img-preset").get_by_role("option")).to_have_count(0)
    page.keyboard.press("Escape")
    choose("The other one")
    expect(box(page, "txt2img-steps")).to_have_value("33")
    expect(name).to_have_value(re.compile("^fine"))


def test_the_page_follows_the_browsers_language_and_can_be_told_another(chromium, url):
    context = chromium.new_context(locale="de-DE")
    page = context.new_page()
    page.set_default_timeout(SLOW_MS)
    seen = Seen(page)
    open_page(page, url)
    expect(page.locator("#txt2img-generate")).to_have_text("Erzeugen")
    expect(page.locator("#txt2img-steps")).to_contain_text("Schritte")
    expect(page.locator("#txt2img-steps input[type=range]")).to_have_attribute("aria-label", "Regler für Schritte")
    box(page, "txt2img-steps").fill("1")
    generate(page, "txt2img")
    status(page, "txt2img", r"^1 Bild in \d")
    expect(box(page, "txt2img-infotext")).to_have_value(re.compile(r"^Steps: 1, Sampler: "))
    page.locator("#help-open").click()
    page.locator("#page-language input").click()
    with page.expect_navigation():
        page.get_by_role("option", name="English").click()
    settled(page)
    expect(page.locator("#txt2img-generate")).to_have_text("Generate")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    generate(page, "txt2img")
    status(page, "txt2img", r"^1 picture in \d")
    context.close()
    assert seen.outside == []


def test_on_a_phone_in_german_nothing_is_cut_or_uneven(chromium, url):
    context = chromium.new_context(locale="de-DE", viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.set_default_timeout(SLOW_MS)
    open_page(page, url)
    line = page.locator("#model-line input")
    assert line.evaluate("(line) => line.scrollWidth <= line.clientWidth")
    line.evaluate("(line) => line.style.cssText = 'width: 40px !important; flex: none !important'")
    line.dispatch_event("pointerover")
    assert line.get_attribute("title") == line.input_value()  # what does not fit is told whole
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#queue-open").click()
    buttons = page.locator("#queue-panel .jobs-actions button")
    expect(buttons).to_have_count(3)
    expect(buttons.first).to_be_disabled()  # there is no job
    assert len({each.bounding_box()["width"] for each in buttons.all()}) == 1
    page.keyboard.press("Escape")
    page.locator("#help-open").click()
    shown = page.locator("#page-language input")
    expect(shown).to_have_value("Wie der Browser")
    assert shown.evaluate("(box) => box.scrollWidth <= box.clientWidth")
    context.close()


def test_the_page_stays_dark_when_it_was_told_so(page):
    expect(page.locator("body")).not_to_have_class(re.compile(r"\bdark\b"))
    page.locator("#help-open").click()
    page.locator("#page-look input").click()
    with page.expect_navigation():
        page.get_by_role("option", name="Dark").click()
    expect(page.locator("body")).to_have_class(re.compile(r"\bdark\b"))
    page.seen.errors.clear()  # the page that went away complains that its connections ended
    open_page(page, page.url.partition("?")[0])
    expect(page.locator("body")).to_have_class(re.compile(r"\bdark\b"))
    expect(page.locator("#page-look input")).to_have_value("Dark")


def test_the_guide_is_shown_on_the_first_visit_only(page):
    expect(page.locator("#guide")).to_be_visible()
    page.locator("#guide-done").click()
    expect(page.locator("#guide")).to_be_hidden()
    page.reload(wait_until="domcontentloaded")
    settled(page)
    page.seen.errors.clear()
    expect(page.locator("#guide")).to_be_hidden()
    page.locator("body").press("?")
    expect(page.locator("#help-panel")).to_contain_text("Ctrl + Enter")
    page.keyboard.press("Escape")
    expect(page.locator("#help-panel")).to_be_hidden()
