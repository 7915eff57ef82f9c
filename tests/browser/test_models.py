"""The Models tab in a real browser: find a file, see what it is, and put it into the prompt."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.pipelines.library.files import lora

from .drive import SLOW_MS, box, open_tab


@pytest.fixture(scope="module")
def files(studio):
    """LoRAs in the studio's own folder: more than a page of the list, one with a picture and notes, one broken."""
    folder = studio.settings.data_dir / "loras"
    for number in range(30):
        lora(folder / f"many {number:02}.safetensors")
    path = lora(folder / "zebra ink.safetensors", rank=16)
    path.with_suffix(".json").write_text(json.dumps({"activation text": "ink drawing", "preferred weight": 0.8,
                                                     "notes": "Black lines."}))
    Image.new("RGB", (900, 600), "teal").save(path.with_suffix(".preview.png"))
    (folder / "zebra broken.safetensors").write_bytes(b"\xff" * 100)
    studio.collection.library.refresh()
    assert studio.collection.library.wait(60)


def shows(page, elem_id: str, pattern: str) -> None:
    expect(box(page, elem_id)).to_have_value(re.compile(pattern), timeout=SLOW_MS)


def tile(page, name: str):
    return page.locator("#models-tiles").get_by_role("button").filter(has_text=name)


def test_a_lora_is_found_looked_at_and_put_into_the_prompt(page, files):
    open_tab(page, "Models")
    shows(page, "models-range", "^1 to 24 of 3[3-9]$")
    page.locator("#models-after").click()
    shows(page, "models-range", "^25 to 3")
    box(page, "models-search").fill("ZEBRA ink")
    shows(page, "models-range", "^1 to 1 of 1$")
    tile(page, "zebra ink").click()
    shows(page, "models-facts", r"Kind: LoRA\n.*\n(.*\n)*.*AutoV2: [0-9a-f]{10}|Rank: 16")
    shows(page, "models-triggers", "^ink drawing$")
    shows(page, "models-notes", "^Black lines.$")
    picture = page.locator("#models-picture img")
    expect(picture).to_have_js_property("naturalWidth", 384, timeout=SLOW_MS)  # drawn anew and small
    page.locator("#models-use").click()
    shows(page, "models-message", "zebra ink is in the prompt")
    open_tab(page, "Text to image")
    shows(page, "txt2img-prompt", r"^ink drawing <lora:zebra ink:0\.8>$")


def test_a_broken_file_says_why_and_a_checkpoint_is_chosen(page, files, studio):
    open_tab(page, "Models")
    page.get_by_label("Cannot be used", exact=True).check()
    shows(page, "models-range", "^1 to 1 of 1$")
    tile(page, "zebra broken").click()
    shows(page, "models-fault", "zebra broken.safetensors cannot be used")
    expect(page.locator("#models-use")).to_be_hidden()
    page.get_by_label("Checkpoints", exact=True).check()
    shows(page, "models-range", "^1 to 3 of 3$")  # what comes along, what --model names, one in a model folder
    tile(page, "atelier-demo").click()
    page.locator("#models-choose").click()
    expect(page.locator("#model input")).to_have_value(re.compile("Atelier demo"), timeout=SLOW_MS)
    shows(page, "models-memory", "atelier-demo: .* ready on the device")


def test_on_a_phone_nothing_scrolls_sideways_and_what_was_chosen_comes_into_view(visit, files):
    page = visit(390, 844)
    page.locator("#tabs").get_by_label("More tabs").or_(page.locator("#tabs .overflow-menu button").first).first.click()
    page.get_by_role("button", name="Models", exact=True).or_(
        page.locator("#tabs .overflow-dropdown").get_by_text("Models", exact=True)).first.click()
    shows(page, "models-range", "^1 to 24 of")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    tile(page, "many 03").click()
    expect(page.locator("#models-title textarea, #models-title input")).to_be_in_viewport(timeout=SLOW_MS)
