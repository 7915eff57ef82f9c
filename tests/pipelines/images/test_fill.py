"""Filling replaces what the mask covers by the colours around it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.images.fill import fill

from .files import noise, smooth


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (511, 333)])
def test_unmasked_pixels_stay_exactly(size):
    image = noise(*size)
    mask = noise(*size, "L", seed=1).point(lambda value: 0 if value < 128 else value)
    kept = np.asarray(mask) == 0
    assert np.array_equal(np.asarray(fill(image, mask))[kept], np.asarray(image)[kept])


def test_the_covered_thing_is_gone_and_its_surroundings_flow_in():
    image = Image.new("RGB", (300, 200), (20, 60, 200))
    image.paste((255, 255, 0), (100, 50, 200, 150))
    mask = Image.new("L", image.size)
    mask.paste(255, (96, 46, 204, 154))
    assert np.abs(np.asarray(fill(image, mask)).astype(int) - (20, 60, 200)).max() <= 1


def test_near_colours_count_more_than_far_ones():
    image = Image.new("RGB", (400, 100), (255, 0, 0))
    image.paste((0, 0, 255), (200, 0, 400, 100))
    mask = Image.new("L", image.size)
    mask.paste(255, (100, 0, 300, 100))
    filled = np.asarray(fill(image, mask)).astype(int)[50]
    assert filled[101, 0] > 250 > 5 >= filled[101, 2] and filled[298, 2] > 250 > 5 >= filled[298, 0]
    assert 215 < filled[110, 0] < 240 and 160 < filled[150, 0] < 180
    assert (np.diff(filled[100:300, 0]) <= 2).all()


def test_a_half_masked_pixel_is_half_filled():
    image = Image.new("RGB", (64, 64), (0, 0, 0))
    image.putpixel((32, 32), (200, 200, 200))
    mask = Image.new("L", image.size)
    mask.putpixel((32, 32), 128)
    assert 95 <= fill(image, mask).getpixel((32, 32))[0] <= 115


def test_a_picture_masked_all_over_becomes_grey():
    assert fill(noise(40, 30), Image.new("L", (40, 30), 255)).getcolors() == [(1200, (127, 127, 127))]


def test_far_from_everything_the_mean_colour_is_used():
    image = Image.new("RGB", (3000, 40), (90, 120, 150))
    mask = Image.new("L", image.size, 255)
    mask.paste(0, (0, 0, 8, 40))
    assert np.abs(np.asarray(fill(image, mask)).astype(int) - (90, 120, 150)).max() <= 1


def test_transparent_pictures_are_filled_as_seen_on_white():
    image = Image.new("RGBA", (30, 30), (255, 0, 0, 0))
    assert fill(image, Image.new("L", (30, 30), 0)).getpixel((3, 3)) == (255, 255, 255)


def test_a_mask_of_another_size_is_a_programming_error():
    with pytest.raises(ValueError, match="mask"):
        fill(smooth(4, 4), Image.new("L", (5, 4)))
