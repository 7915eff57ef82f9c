"""Contact sheets show every picture whole, in order, with readable labels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.images import grid as sheets
from pipelines.images.grid import GAP, grid

from .files import noise


@pytest.mark.parametrize(("count", "size"), [(1, (20, 10)), (2, (40, 10)), (3, (40, 20)), (5, (60, 20)), (9, (60, 30))])
def test_the_sheet_is_nearly_square_and_seamless(count, size):
    images = [noise(20, 10, seed=seed) for seed in range(count)]
    sheet = grid(images)
    assert sheet.size == size and sheet.mode == "RGB"
    for index, image in enumerate(images):
        row, column = divmod(index, size[0] // 20)
        assert sheet.crop((column * 20, row * 10, column * 20 + 20, row * 10 + 10)).tobytes() == image.tobytes()


def test_the_number_of_columns_can_be_given():
    assert grid([noise(8, 8)] * 6, columns=6).size == (48, 8)


def test_smaller_and_transparent_pictures_are_centred_on_white():
    sheet = grid([Image.new("RGB", (10, 10)), Image.new("RGBA", (4, 4), (0, 0, 0, 255))])
    assert sheet.getpixel((10, 0)) == (255, 255, 255) and sheet.getpixel((15, 5)) == (0, 0, 0)


@pytest.mark.parametrize("side", [64, 128, 512])
def test_each_label_stands_below_its_picture(side):
    images = [noise(side, side, seed=seed) for seed in range(2)]
    sheet = grid(images, ["a cat face, noto style, blue background", ""])
    below = np.asarray(sheet.convert("L"))[side:]
    assert below[:, :side].min() < 100 and below[:, side + GAP:].min() == 255
    assert sheet.crop((0, 0, side, side)).tobytes() == images[0].tobytes()
    rows = np.flatnonzero((below[:, :side] < 200).any(1))
    assert rows.min() > 0 and rows.max() < len(below) - 1  # no line is cut off
    assert (below[:, [0, side - 1]] == 255).all()


@pytest.mark.parametrize("label", ["word " * 300, "x" * 3000, "日本語 🐱", "a\nb\tc", "مرحبا", "\x00\x07", "\ud800",
                                   " "])
def test_any_label_fits_its_place(label):
    sheet = grid([noise(96, 96)], [label])
    assert sheet.width == 96 and sheet.height < 96 * 2
    assert (np.asarray(sheet)[96:, [0, 95]] == 255).all()


def test_a_label_that_is_too_long_ends_with_an_ellipsis():
    font = sheets.ImageFont.load_default(12)
    lines = sheets._wrapped("a quick brown fox jumps over the lazy dog again and again", font, 90).split("\n")
    assert len(lines) == 3 and lines[-1].endswith("...")
    assert all(font.getlength(line) <= 90 for line in lines)
    assert sheets._wrapped("a cat", font, 90) == "a cat"


def test_rows_and_columns_can_be_labelled():
    images = [Image.new("RGB", (200, 100), (250, 0, 0))] * 6
    sheet = grid(images, columns=3, row_labels=["Steps: 20", "Steps: 30"], column_labels=["Euler a", "DDIM", "Heun"])
    pixels = np.asarray(sheet).astype(int)
    red = (pixels == (250, 0, 0)).all(-1)
    assert red.sum() == 6 * 200 * 100
    top, left = np.argwhere(red).min(0)
    dark = pixels.max(-1) < 100
    assert dark[:top].any() and dark[:, :left].any() and not dark[top:, left:].any()


def test_a_sheet_that_would_be_too_large_is_made_of_smaller_pictures(monkeypatch):
    monkeypatch.setattr(sheets, "MAX_PIXELS", 40_000)
    sheet = grid([noise(200, 100, seed=seed) for seed in range(9)])
    assert 30_000 < sheet.width * sheet.height <= 40_000 and abs(sheet.width / sheet.height - 2) < 0.1


def test_no_pictures_and_missing_labels_are_programming_errors():
    with pytest.raises(ValueError, match="at least one"):
        grid([])
    with pytest.raises(ValueError, match="1 labels for 2 places"):
        grid([noise(4, 4)] * 2, ["one"])
