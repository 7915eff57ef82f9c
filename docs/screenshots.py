"""Make the README's pictures: python -m docs.screenshots (needs Chromium and requirements-dev.txt)

Starts the app in a folder of its own, works through the tabs as a person would, and takes a picture of each.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from app import quieten
from pipelines.demo import EXAMPLES
from pipelines.settings import load
from pipelines.studio.studio import Studio

DOCS = Path(__file__).parent
SIZE = {"width": 1400, "height": 900}
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SIDE, EDITOR_PADDING = 128, 30  # px: of the model's pictures, and what the editor keeps free around one
HOUSE = {"prompt": "a house, noto style, blue background", "seed": "2"}
SUN = {"prompt": "a sun, noto style, blue background", "seed": "3"}
SKY = (111, 18)
DONE = re.compile(r"pictures? in ")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        settings = load(["--data-dir", folder], {})
        quieten(os.environ, settings)
        from ui import shell
        from ui.server.launch import launch

        studio = Studio(settings)
        running = launch(shell.build(studio), settings, port=0)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            page = browser.new_page(viewport=SIZE)
            page.goto(running.url, wait_until="domcontentloaded")
            text_to_image(page)
            image_to_image(page)
            inpaint(page)
        finally:
            browser.close()
            running.close()
            studio.close()


def text_to_image(page: Page) -> None:
    """Four pictures of the first example."""
    open_tab(page, "Text to image")
    fill(page, "txt2img-prompt", EXAMPLES[0]["prompt"])
    fill(page, "txt2img-seed", str(EXAMPLES[0]["seed"]))
    fill(page, "txt2img-batch_count", "4")
    generate(page, "txt2img")
    save(page, "txt2img.png")


def image_to_image(page: Page) -> None:
    """The first of them, drawn again as another thing."""
    page.locator("#txt2img-strip .thumbnail-item").first.click()
    expect(page.locator("#txt2img-infotext textarea")).to_have_value(re.compile(f"Seed: {EXAMPLES[0]['seed']}"))
    page.locator("#txt2img-send-img2img").click()
    expect(page.get_by_role("tab", name="Image to image")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#img2img-source img").first).to_be_visible()
    fill(page, "img2img-prompt", EXAMPLES[1]["prompt"])
    generate(page, "img2img")
    save(page, "img2img.png")


def inpaint(page: Page) -> None:
    """A sun put into the empty sky over a house; the house stays as it is."""
    open_tab(page, "Text to image")
    fill(page, "txt2img-prompt", HOUSE["prompt"])
    fill(page, "txt2img-seed", HOUSE["seed"])
    fill(page, "txt2img-batch_count", "1")
    generate(page, "txt2img")
    page.locator("#txt2img-send-inpaint").click()
    expect(page.get_by_role("tab", name="Inpaint")).to_have_attribute("aria-selected", "true")
    brush = page.locator("#inpaint-source").get_by_role("button", name="Brush", exact=True)
    expect(brush).to_be_visible(timeout=30_000)
    expect(page.locator("#inpaint-source").get_by_role("button", name="Undo")).to_be_enabled(timeout=30_000)
    brush.click()
    paint(page, SKY)
    fill(page, "inpaint-prompt", SUN["prompt"])
    fill(page, "inpaint-seed", SUN["seed"])
    fill(page, "inpaint-strength", "1")
    page.locator("#inpaint-more > button").click()
    fill(page, "inpaint-masked_padding", "4")  # so near that the sun fills the close-up
    page.locator("#inpaint-more > button").click()
    page.locator("#inpaint-inpaint_area input").click()
    page.locator("#inpaint-inpaint_area").get_by_role("option", name="Only masked", exact=True).click()
    expect(page.locator("#inpaint-inpaint_area input")).to_have_value("Only masked")
    generate(page, "inpaint")
    made_with = page.locator("#inpaint-infotext textarea")
    expect(made_with).to_have_value(re.compile("strength: 1, .*Inpaint area: Only masked, Masked area padding: 4"))
    save(page, "inpaint.png")


def paint(page: Page, place: tuple[int, int]) -> None:
    """Paint a dab in the editor, with its brush as it is: 50 px of the picture wide. place: the middle, in px of it."""
    around = page.locator("#inpaint-source .pixi-target canvas").bounding_box()
    scale = min((around[name] - 2 * EDITOR_PADDING) / SIDE for name in ("width", "height"))
    x, y = ((around[corner] + around[name] / 2 + (each - SIDE / 2) * scale)
            for corner, name, each in zip(("x", "y"), ("width", "height"), place, strict=True))
    page.mouse.move(x - 2, y)
    page.mouse.down()
    page.mouse.move(x + 2, y, steps=3)
    page.mouse.up()


def open_tab(page: Page, name: str) -> None:
    tab = page.get_by_role("tab", name=name, exact=True)
    tab.click()
    expect(tab).to_have_attribute("aria-selected", "true", timeout=30_000)


def fill(page: Page, elem_id: str, value: str) -> None:
    field = page.locator(f"#{elem_id} textarea, #{elem_id} input[type=number], #{elem_id} input").first
    field.fill(value)
    field.blur()


def generate(page: Page, task: str) -> None:
    page.locator(f"#{task}-generate").click()
    expect(page.locator(f"#{task}-status textarea, #{task}-status input").first).to_have_value(DONE, timeout=300_000)
    expect(page.locator(f"#{task}-picture img").first).to_be_visible()


def save(page: Page, name: str) -> None:
    """Take the picture, with few colours, so that the repository stays small."""
    path = DOCS / name
    page.mouse.move(0, 0)
    page.screenshot(path=path)
    with Image.open(path) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
