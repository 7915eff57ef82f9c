"""The mask brush in a real browser, and the promise that everything outside the mask stays as it was."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from pipelines.images.convert import convert
from pipelines.images.mask import prepare
from tests.pipelines.images.files import encoded, noise, profile

from .drive import (
    EDITOR,
    box,
    choose,
    drop,
    editor_ready,
    editor_tool,
    generate,
    open_tab,
    result,
    settled,
    status,
    stroke,
)

SIZE = (75, 53)
BLUR = 2


def rotated_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side, as phones do
    return encoded(noise(*SIZE[::-1]), "JPEG", exif=exif.tobytes())


FILES = {
    "wide-gamut.png": lambda: encoded(noise(*SIZE), "PNG", icc_profile=profile("RGB")),
    "see-through.png": lambda: encoded(noise(*SIZE, mode="RGBA"), "PNG"),
    "phone.jpg": rotated_jpeg,
}


@pytest.fixture
def inpaint(page):
    open_tab(page, "Inpaint")
    editor_ready(page)
    box(page, "inpaint-steps").fill("2")
    page.locator("#inpaint-more > button").click()
    box(page, "inpaint-mask_blur").fill(str(BLUR))
    return page


def picture(tmp_path: Path, name: str = "see-through.png") -> Path:
    path = tmp_path / name
    path.write_bytes(FILES[name]())
    return path


def run(page) -> None:
    generate(page, "inpaint")
    status(page, "inpaint", "^1 picture in ")


def last_mask(page, studio) -> Image.Image:
    """The mask that the run was made with."""
    mask_id = box(page, "inpaint-last-mask").input_value()
    return studio.images.open(mask_id, "mask").convert("L")


@pytest.mark.parametrize(("name", "way"), [("wide-gamut.png", "dropped"), ("see-through.png", "chosen"),
                                           ("phone.jpg", "dropped")])
def test_outside_the_mask_every_byte_stays(inpaint, studio, tmp_path, name, way):
    file = picture(tmp_path, name)
    if way == "dropped":
        drop(inpaint, f"{EDITOR} .pixi-target canvas", file, "image/png" if name.endswith("png") else "image/jpeg")
        expect(box(inpaint, "inpaint-note")).to_have_value(re.compile("75 × 53 px"))
    else:
        choose(inpaint, "inpaint", file)
    stroke(inpaint, SIZE, (20, 15), (40, 15))
    run(inpaint)

    mask = last_mask(inpaint, studio)
    assert mask.size == SIZE and mask.getpixel((30, 15)) == 255 and mask.getpixel((70, 50)) == 0
    before, _ = convert(file)
    after = result(inpaint, "inpaint")
    assert after.mode == before.mode and after.size == before.size
    kept = np.asarray(prepare(mask, blur=BLUR)) == 0
    assert kept.mean() > 0.2
    before, after = np.asarray(before), np.asarray(after)
    assert np.array_equal(before[kept], after[kept]) and not np.array_equal(before[~kept], after[~kept])


def test_the_eraser_takes_back_what_was_painted(inpaint, studio, tmp_path):
    choose(inpaint, "inpaint", picture(tmp_path))
    stroke(inpaint, SIZE, (15, 26), (60, 26))
    stroke(inpaint, SIZE, (60, 26), (62, 26), tool="Erase")
    run(inpaint)
    mask = last_mask(inpaint, studio)
    assert mask.getpixel((15, 26)) == 255 and mask.getpixel((61, 26)) == 0


def test_a_reload_brings_back_the_picture_and_its_mask(inpaint, studio, tmp_path):
    choose(inpaint, "inpaint", picture(tmp_path))
    stroke(inpaint, SIZE, (20, 15), (40, 15))
    run(inpaint)
    before = last_mask(inpaint, studio).tobytes()
    settled(inpaint)
    inpaint.reload(wait_until="domcontentloaded")
    settled(inpaint)
    expect(inpaint.locator(f"{EDITOR} .zoom-number")).not_to_have_text(re.compile("57%"))
    run(inpaint)
    assert last_mask(inpaint, studio).tobytes() == before


def test_the_result_becomes_the_source_and_the_mask_stays(inpaint, studio, tmp_path):
    choose(inpaint, "inpaint", picture(tmp_path))
    stroke(inpaint, SIZE, (20, 15), (40, 15))
    run(inpaint)
    mask, source = last_mask(inpaint, studio).tobytes(), box(inpaint, "inpaint-image-id").input_value()
    inpaint.locator("#inpaint-use-result").click()
    expect(box(inpaint, "inpaint-image-id")).not_to_have_value(source)
    run(inpaint)
    assert last_mask(inpaint, studio).tobytes() == mask


def test_an_uploaded_mask_is_taken_as_it_is(inpaint, studio, tmp_path):
    mask = Image.new("L", SIZE)
    mask.paste(255, (40, 20, 60, 40))
    mask.save(tmp_path / "mask.png")
    choose(inpaint, "inpaint", picture(tmp_path))
    with inpaint.expect_file_chooser() as chooser:
        inpaint.locator("#inpaint-upload-mask").click()
    chooser.value.set_files(str(tmp_path / "mask.png"))
    expect(box(inpaint, "inpaint-kept-mask")).to_have_value(re.compile("^[0-9a-f]{64}$"))
    run(inpaint)
    assert last_mask(inpaint, studio).tobytes() == mask.tobytes()


def test_without_a_picture_it_says_so(inpaint):
    generate(inpaint, "inpaint")
    status(inpaint, "inpaint", "^Picture: ")


def test_nothing_painted_redraws_everything_and_says_so(inpaint, tmp_path):
    choose(inpaint, "inpaint", picture(tmp_path))
    run(inpaint)
    expect(box(inpaint, "inpaint-notices")).not_to_have_value("")


def test_an_idle_editor_uploads_nothing(inpaint, tmp_path):
    choose(inpaint, "inpaint", picture(tmp_path))
    stroke(inpaint, SIZE, (20, 15), (40, 15))
    run(inpaint)
    uploads = []
    inpaint.on("request", lambda sent: uploads.append(sent.url) if sent.url.endswith("/upload") else None)
    for _ in range(2):  # each look at the queue once made the editor send its picture again
        with inpaint.expect_response(re.compile("/run/predict")):
            pass
    assert uploads == []


def test_clearing_the_editor_forgets_the_picture(inpaint, tmp_path):
    choose(inpaint, "inpaint", picture(tmp_path))
    editor_tool(inpaint, "Clear canvas").click()
    expect(box(inpaint, "inpaint-note")).to_have_value("")
    generate(inpaint, "inpaint")
    status(inpaint, "inpaint", "^Picture: ")
