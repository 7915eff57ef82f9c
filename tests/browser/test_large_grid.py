"""A grid of a hundred pictures, made while somebody types: what the page does for each is small, and stays so."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from .drive import box, fill_grid, generate, status, work_clock

SIDE = 10  # values of each axis
TYPED = "a word for every look at it, and none of them lost "
MOST_MS = 250  # of the page's own thread for a picture; 61 were measured, beside much else
# Counts what is put into the strip. Rebuilt for each picture, it would be thousands.
COUNT = """() => {
    window.built = 0;
    const tile = ".thumbnail-item";
    const tiles = (node) => (node.matches?.(tile) ? 1 : node.querySelectorAll?.(tile).length ?? 0);
    new MutationObserver((changes) => {
        for (const { addedNodes } of changes) for (const node of addedNodes) window.built += tiles(node);
    }).observe(document.body, { childList: true, subtree: true });
}"""


def test_a_grid_of_a_hundred_pictures_rebuilds_nothing_and_leaves_the_page_to_who_types(page):
    fetched = []
    page.on("request", lambda sent: fetched.append(sent.url) if "/file=" in sent.url else None)
    fill_grid(page, SIDE)
    worked_s = work_clock(page)
    page.evaluate(COUNT)
    begin, typed = worked_s(), ""
    generate(page, "txt2img")
    status(page, "txt2img", "^(Step|Starting)")
    negative = page.locator("#txt2img-negative_prompt textarea")
    while not re.match(r"\d+ pictures? in ", box(page, "txt2img-status").input_value()):
        key = TYPED[len(typed) % len(TYPED)]
        negative.press(key)
        typed += key
        page.evaluate("() => new Promise(requestAnimationFrame)")
    busy_ms = 1000 * (worked_s() - begin) / SIDE**2
    expect(page.locator("#txt2img-strip .thumbnail-item")).to_have_count(SIDE**2 + 1)
    status(page, "txt2img", "^100 pictures in ")
    expect(negative).to_have_value(typed)
    assert page.evaluate("window.built") <= 2 * SIDE**2
    assert len(fetched) <= 2 * SIDE**2
    assert busy_ms <= MOST_MS
