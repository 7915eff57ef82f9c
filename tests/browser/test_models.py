"""The Models tab in a real browser: find a file, see what it is, and put it into the prompt."""

from __future__ import annotations

import json
import re
import threading

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.pipelines.library.files import lora

from .drive import SLOW_MS, box, open_tab, settled


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
    expect(box(page, elem_id)).to_have_value(re.compile(pattern))


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
    expect(picture).to_have_js_property("naturalWidth", 384)  # drawn anew and small
    page.locator("#models-use").click()
    shows(page, "models-message", "zebra ink is in the prompt")
    open_tab(page, "Text to image")
    shows(page, "txt2img-prompt", r"^ink drawing <lora:zebra ink:0\.8>$")


def test_what_is_for_another_family_says_so_when_it_is_put_into_the_prompt(page, studio):
    path = lora(studio.settings.data_dir / "loras" / "wide ink.safetensors", text_width=2048)
    studio.collection.library.refresh()
    assert studio.collection.library.wait(60)
    open_tab(page, "Models")
    box(page, "models-search").fill("wide ink")
    shows(page, "models-range", "^1 to 1 of 1$")
    tile(page, "wide ink").click()
    page.locator("#models-use").click()
    shows(page, "models-message", "for Stable Diffusion XL, and the chosen model is Stable Diffusion 1.x")
    path.unlink()


def test_an_empty_list_says_what_to_do(page, files):
    open_tab(page, "Models")
    shows(page, "models-range", "^1 to 24 of")
    nothing = page.locator("#models-nothing")
    expect(nothing).to_be_hidden()
    box(page, "models-search").fill("no file is called that")
    expect(nothing).to_contain_text("Nothing fits. Try fewer words")
    expect(page.locator("#models-tiles")).to_be_hidden()
    box(page, "models-search").fill("")
    page.get_by_label("VAEs", exact=True).check()
    expect(nothing).to_contain_text("Nothing of this kind yet")
    page.get_by_label("All", exact=True).first.check()
    expect(nothing).to_be_hidden()
    expect(tile(page, "many 03")).to_be_visible()


@pytest.mark.parametrize("width", [1400, 390])
def test_the_words_of_a_control_are_seen_whole(visit, width):
    page = visit(width, 844)
    if width == 390:
        page.locator("#tabs .overflow-menu button").first.click()
        page.locator("#tabs .overflow-dropdown").get_by_text("Models", exact=True).click()
    else:
        open_tab(page, "Models")
    for name in ("models-search", "models-family", "models-order", "models-source"):
        box(page, name).focus()
        cut = page.locator(f"#{name} .info-text").evaluate("""words => {
            const own = words.getBoundingClientRect();
            let around = words.parentElement;
            while (around && around !== document.body && getComputedStyle(around).overflow === "visible") {
                around = around.parentElement;
            }
            const room = around === document.body ? { left: 0, top: 0, right: innerWidth, bottom: innerHeight }
                : around.getBoundingClientRect();
            return own.width < 50 || own.left < room.left || own.right > room.right || own.top < room.top;
        }""")
        assert not cut, name


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
    expect(page.locator("#model input")).to_have_value(re.compile("Atelier demo"))
    shows(page, "models-memory", "atelier-demo: .* ready on the device")


def test_the_picker_marks_what_is_in_memory_and_the_form_says_what_it_needs(page, studio):
    picker, options = page.locator("#model input"), page.get_by_role("option")
    picker.click()
    options.filter(has_text="The other one").click()
    shows(page, "model-line", "draws in four steps$")  # it is loaded
    shows(page, "txt2img-steps", "^4$")  # the form has taken over what it likes
    picker.click()
    expect(options.filter(has_text="The other one (in memory)")).to_be_visible()
    loaded = {each.name for each in studio.status().loaded}
    for card in studio.collection.cards():
        expect(options.filter(has_text=f"{card.title} (in memory)")).to_have_count(int(card.name in loaded))
    page.keyboard.press("Escape")
    shows(page, "txt2img-need", r"^Needs about 0\.\d of \d+(\.\d)? GB$")
    for side in ("width", "height"):
        box(page, f"txt2img-{side}").fill("2048")
    shows(page, "txt2img-need", r"^Needs about [5-9]\.\d of \d+(\.\d)? GB")


def test_what_is_typed_while_a_models_values_are_on_their_way_stays(page):
    shows(page, "txt2img-steps", "^20$")
    page.route("**/queue/join*", lambda asked: None)  # they wait
    page.locator("#model input").click()
    page.get_by_role("option").filter(has_text="The other one").click()
    box(page, "txt2img-steps").fill("9")
    page.unroute_all()  # they go on
    shows(page, "model-line", "draws in four steps$")
    open_tab(page, "Image to image")
    shows(page, "img2img-steps", "^4$")  # a form that nobody typed into has taken over what the model likes
    open_tab(page, "Text to image")
    shows(page, "txt2img-steps", "^9$")


def test_on_a_phone_nothing_scrolls_sideways_and_what_was_chosen_comes_into_view(visit, files):
    page = visit(390, 844)
    page.locator("#tabs").get_by_label("More tabs").or_(page.locator("#tabs .overflow-menu button").first).first.click()
    page.get_by_role("button", name="Models", exact=True).or_(
        page.locator("#tabs .overflow-dropdown").get_by_text("Models", exact=True)).first.click()
    shows(page, "models-range", "^1 to 24 of")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    tile(page, "many 03").click()
    expect(page.locator("#models-title textarea, #models-title input")).to_be_in_viewport()


def test_a_download_is_paused_goes_on_and_stands_in_the_list(page, files, store, studio, tmp_path):
    data = lora(tmp_path / "x.safetensors", text_width=4000, rank=1000).read_bytes()  # 8 MB
    store.files["/fetched-ink.safetensors"] = data
    go_on = threading.Event()
    store.gate = lambda sent: go_on.wait(SLOW_MS / 1000) if sent > len(data) // 2 else None
    open_tab(page, "Models")
    box(page, "models-source").fill(f"{store.origin}/fetched-ink.safetensors")
    page.locator("#models-download").click()
    shows(page, "models-download-line", "is on its way")
    listed = page.locator("#models-downloads")
    expect(listed).to_contain_text(re.compile(r"fetched-ink.*: [1-9]\d?% of 8\.\d MB"))
    expect(page.locator("#models-resume")).to_be_hidden()  # only what can be asked of it is offered
    page.locator("#models-pause").click()
    shows(page, "models-download-line", "^$")  # the wish is known: what comes now comes too late
    go_on.set()
    expect(listed).to_contain_text(re.compile(r"paused at [1-9]\d?% of"))
    page.reload(wait_until="domcontentloaded")
    settled(page)
    open_tab(page, "Models")
    expect(page.locator("#models-pause")).to_be_hidden()
    page.locator("#models-resume").click()  # it is chosen: nothing else waits
    expect(listed).to_contain_text("done. It is the LoRA fetched-ink")
    expect(page.locator("#models-stop")).to_be_hidden()
    box(page, "models-search").fill("fetched")
    shows(page, "models-range", "^1 to 1 of 1$")
    tile(page, "fetched-ink").click()
    shows(page, "models-facts", "Rank: 1,?000")
    (studio.settings.data_dir / "loras" / "fetched-ink.safetensors").unlink()


@pytest.mark.parametrize(("asked", "answer"), [
    ("https://192.168.0.1/x.safetensors", "Download: .*192.168.0.1"),
    ("someone's model", "type a name like someone/model")], ids=["private", "nonsense"])
def test_what_may_not_be_fetched_is_refused_in_the_form(page, store, asked, answer):
    before = list(store.asked)
    open_tab(page, "Models")
    box(page, "models-source").fill(asked)
    page.locator("#models-download").click()
    shows(page, "models-download-line", answer)
    assert store.asked == before


def test_a_pickle_says_why_it_is_refused_and_is_converted_on_the_page(page, studio):
    import torch

    folder = studio.settings.data_dir / "models" / "embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"string_to_param": {"*": torch.ones(2, 32)}}, folder / "old charm.pt")
    studio.collection.library.refresh()
    assert studio.collection.library.wait(60)
    open_tab(page, "Models")
    box(page, "models-search").fill("old charm")
    shows(page, "models-range", "^1 to 1 of 1$")
    tile(page, "old charm").click()
    shows(page, "models-fault", "are pickles, which can run programs when they are opened.*It can be converted")
    expect(page.locator("#models-use")).to_be_hidden()
    page.locator("#models-convert").click()
    shows(page, "models-message", "old charm.safetensors is written")
    assert studio.collection.library.wait(60)
    page.get_by_label("Embeddings", exact=True).check()
    shows(page, "models-range", "^1 to 1 of 1$")
    tile(page, "old charm").click()
    expect(page.locator("#models-negative")).to_be_visible()
    for path in folder.glob("old charm*"):
        path.unlink()
