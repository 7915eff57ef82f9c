"""Small comforts, one after the other on one page: what a long run tells, styles, batches, drags, presets, tips."""

from __future__ import annotations

import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from .drive import SLOW_MS, Seen, box, generate, open_page, open_tab, status

# The system's messages and tones are written down; the clock can be set forward; the page is not in sight.
STANDS_IN = """
window.told = []; window.tones = 0; window.late = 0;
window.Notification = class {
    static permission = "granted";
    static requestPermission() { window.asked = true; return Promise.resolve("granted"); }
    constructor(title, { body }) { window.told.push(body); }
};
window.AudioContext = class { currentTime = 0; destination = null; };
window.OscillatorNode = class { connect(next) { return next; } start() { window.tones++; } stop() {} };
window.GainNode = class { gain = { setTargetAtTime() {} }; connect(next) { return next; } };
const now = performance.now.bind(performance);
performance.now = () => now() + window.late;
Object.defineProperty(document, "hidden", { get: () => true });
"""
STYLE = 'name,prompt,negative_prompt\nKüste,"{prompt}, eine Küste",grau\n'


@pytest.fixture(scope="module")
def visitor(chromium, url):
    """One page for all tests here; they leave it as they found it."""
    context = chromium.new_context(viewport={"width": 1400, "height": 900})
    context.add_init_script(STANDS_IN)
    page = context.new_page()
    page.set_default_timeout(SLOW_MS)
    seen = Seen(page)
    open_page(page, url)
    page.locator("#txt2img-more > button").click()
    yield page
    context.close()
    assert (seen.errors, seen.outside) == ([], [])


def run(page, task, steps, pattern):
    box(page, f"{task}-steps").fill(str(steps))
    generate(page, task)
    status(page, task, pattern)


def test_only_a_long_run_is_told_and_only_when_that_is_wanted(visitor):
    def told_of_a_long_run():
        visitor.evaluate("window.late = 0")
        run(visitor, "txt2img", 100, "^Step ")
        visitor.evaluate("window.late = 20000")  # milliseconds
        status(visitor, "txt2img", "^1 picture in ")
        expect(visitor.locator('.bar[data-state="running"]')).to_have_count(0)
        return visitor.evaluate("[window.told.length, window.tones]")

    assert told_of_a_long_run() == [0, 0]  # off until it is asked for
    visitor.locator("#help-open").click()
    for choice in ("notify", "sound"):
        visitor.locator(f"#page-{choice} input").check()
    visitor.keyboard.press("Escape")
    assert visitor.evaluate("window.asked")
    told_of_a_long_run()
    visitor.wait_for_function("window.told.length === 1 && window.tones === 2")
    assert re.match("1 picture in ", visitor.evaluate("window.told[0]"))
    visitor.evaluate("window.late = 0")
    run(visitor, "txt2img", 1, "^1 picture in ")
    assert visitor.evaluate("[window.told.length, window.tones]") == [1, 2]


def test_a_styles_file_of_a_spreadsheet_is_taken_and_another_file_is_refused_in_words(visitor, studio, tmp_path):
    visitor.locator("#txt2img-edit-styles").click()
    for name, content, answer in (("no.csv", bytes(range(256)), "no column called name"),
                                  ("styles.csv", STYLE.encode("cp1252"), "^1 style added")):
        (tmp_path / name).write_bytes(content)
        visitor.locator("#styles-editor input[type=file]").set_input_files(tmp_path / name)
        expect(box(visitor, "style-line")).to_have_value(re.compile(answer))
    visitor.keyboard.press("Escape")
    visitor.locator("#txt2img-styles input").click()
    visitor.get_by_role("option", name="Küste").click()
    visitor.keyboard.press("Escape")
    box(visitor, "txt2img-prompt").fill("a fox")
    run(visitor, "txt2img", 1, "^1 picture in ")
    expect(box(visitor, "txt2img-infotext")).to_have_value(re.compile("^a fox, eine Küste\nNegative prompt: grau"))
    studio.styles.delete("Küste")


def test_a_result_is_dragged_over_another_tab_onto_its_picture(visitor):
    picture = visitor.locator("#txt2img-picture img")
    picture.hover()
    visitor.mouse.down()
    visitor.get_by_role("tab", name="Image to image", exact=True).hover()
    visitor.locator("#img2img-source").hover()
    visitor.locator("#img2img-source").hover()  # a second move, as a hand makes: only then is it over it
    visitor.mouse.up()
    expect(box(visitor, "img2img-note")).to_have_value(re.compile("64 × 64 px"))


def test_every_picture_of_a_batch_is_drawn_and_a_file_that_is_none_is_named(visitor, tmp_path):
    open_tab(visitor, "Image to image")
    visitor.locator("#img2img-many > button").click()
    for side in (64, 80):
        Image.effect_noise((64, side), 40).convert("RGB").save(tmp_path / f"{side}.png")
    files = visitor.locator("#img2img-many-pictures input[type=file]")
    files.set_input_files([tmp_path / "64.png", tmp_path / "80.png"])
    expect(box(visitor, "img2img-many-line")).to_have_value(re.compile("2 pictures"))
    run(visitor, "img2img", 2, "^2 pictures in ")
    expect(visitor.locator("#img2img-strip .caption-label")).to_have_count(2)
    visitor.locator("#img2img-many-pictures").get_by_label("Clear").click()
    (tmp_path / "no.png").write_text("no picture")
    files.set_input_files(tmp_path / "no.png")
    expect(box(visitor, "img2img-many-line")).to_have_value(re.compile("1 picture"))
    generate(visitor, "img2img")
    status(visitor, "img2img", "^no.png: Picture: this is not a picture file")
    expect(visitor.get_by_test_id("toast-body")).to_contain_text("no.png")


def test_a_new_visit_begins_with_the_default_preset_and_a_reload_does_not(visitor, url):
    open_tab(visitor, "Text to image")
    box(visitor, "txt2img-prompt").fill("a fox")
    visitor.locator("#txt2img-presets > button").click()
    name = visitor.locator("#txt2img-preset input")
    name.fill("mine")
    name.press("Enter")
    box(visitor, "txt2img-steps").fill("7")
    visitor.locator("#txt2img-preset-default").click()
    expect(box(visitor, "txt2img-preset-line")).to_have_value(re.compile("^mine is taken"))
    box(visitor, "txt2img-steps").fill("30")
    visitor.wait_for_function("JSON.parse(localStorage.getItem('atelier-typed'))['txt2img.steps'] === 30")
    other = visitor.context.new_page()
    open_page(other, url)
    expect(box(other, "txt2img-steps")).to_have_value("7")
    expect(box(other, "txt2img-prompt")).to_have_value("a fox")
    expect(other.locator("#txt2img-preset input")).to_have_value(re.compile("^mine"))
    box(other, "txt2img-steps").fill("31")
    other.wait_for_function("JSON.parse(localStorage.getItem('atelier-typed'))['txt2img.steps'] === 31")
    open_page(other, url)
    expect(box(other, "txt2img-steps")).to_have_value("31")
    other.close()


def test_controls_without_a_line_of_their_own_say_what_they_do(visitor):
    lock = visitor.locator("#txt2img-lock-seed")
    expect(lock).to_have_attribute("title", re.compile("^Keeps the seed"))
    expect(lock.locator("input")).to_have_attribute("aria-description", re.compile("^Keeps the seed"))
    expect(visitor.locator("#model")).to_have_attribute("title", re.compile("^The checkpoint"))
    open_tab(visitor, "Models")
    expect(visitor.locator("#models-view")).to_have_attribute("title", re.compile("^Small pictures"))
