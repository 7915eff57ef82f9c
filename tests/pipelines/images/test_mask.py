"""Masks from the editor and from files, grown, inverted and blurred with a reach that ends."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import RequestError
from pipelines.images import mask as masks
from pipelines.images.blurring import kernel

from .files import noise


def layer(alpha: np.ndarray) -> Image.Image:
    """An editor's layer with this alpha and colours that must not matter."""
    picture = noise(alpha.shape[1], alpha.shape[0])
    picture.putalpha(Image.fromarray(alpha))
    return picture


def blobs(width: int, height: int, seed: int) -> Image.Image:
    """A few random rectangles of random grey, some of them at the borders."""
    rng = np.random.default_rng(seed)
    values = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(1, 4)):
        top, left = rng.integers(0, height), rng.integers(0, width)
        values[top:top + rng.integers(1, 9), left:left + rng.integers(1, 9)] = rng.choice([255, 255, 128, 40])
    return Image.fromarray(values)


def test_layers_are_joined_by_their_largest_alpha():
    first = np.array([[0, 100, 255], [16, 17, 0]], np.uint8)
    second = np.array([[50, 90, 0], [3, 0, 16]], np.uint8)
    joined = masks.from_editor([layer(first), layer(second)], (3, 2))
    assert np.asarray(joined).tolist() == [[50, 100, 255], [0, 17, 0]]


def test_a_small_editor_layer_is_scaled_up_to_the_picture():
    alpha = np.zeros((10, 20), np.uint8)
    alpha[2:8, 5:15] = 255
    joined = np.asarray(masks.from_editor([layer(alpha)], (401, 199)))
    assert joined.shape == (199, 401)
    assert joined[60:140, 130:270].min() == 255
    assert joined[:20].max() == joined[-20:].max() == joined[:, :80].max() == joined[:, -80:].max() == 0
    assert len(np.unique(joined)) > 10  # the edge is graded


def test_no_layers_and_untouched_layers_are_empty():
    assert masks.is_empty(masks.from_editor([], (3, 5)))
    assert masks.is_empty(masks.from_editor([layer(np.zeros((5, 3), np.uint8))], (3, 5)))
    assert not masks.is_empty(masks.from_editor([layer(np.full((5, 3), 17, np.uint8))], (3, 5)))


def test_too_many_layers_and_layers_without_alpha_are_refused():
    with pytest.raises(RequestError, match="50 layers.*limit is 4") as refused:
        masks.from_editor([layer(np.zeros((2, 2), np.uint8))] * 50, (2, 2))
    assert refused.value.field == "mask"
    with pytest.raises(RequestError, match="alpha"):
        masks.from_editor([noise(2, 2)], (2, 2))


def test_an_uploaded_mask_is_read_by_brightness():
    image = Image.new("RGB", (3, 1))
    image.putpixel((1, 0), (255, 255, 255))
    image.putpixel((2, 0), (90, 90, 90))
    assert np.asarray(masks.from_upload(image, (3, 1))).tolist() == [[0, 255, 90]]
    assert np.asarray(masks.from_upload(image.convert("RGBA"), (3, 1))).tolist() == [[0, 255, 90]]


def test_an_uploaded_mask_with_transparent_parts_is_read_by_alpha():
    image = layer(np.array([[0, 128, 129, 255]], np.uint8))
    assert np.asarray(masks.from_upload(image, (4, 1))).tolist() == [[0, 0, 255, 255]]
    assert np.asarray(masks.from_upload(image, (4, 1), soft=True)).tolist() == [[0, 128, 129, 255]]


def test_a_mask_of_another_size_is_scaled_and_both_sizes_are_said():
    mask = Image.new("L", (4, 2))
    mask.paste(255, (0, 0, 2, 2))
    scaled = np.asarray(masks.from_upload(mask, (512, 128)))
    assert scaled.shape == (128, 512) and scaled[:, :192].min() == 255 and scaled[:, 320:].max() == 0
    assert "4 x 2 px and the picture 512 x 128 px" in masks.size_notice(mask.size, (512, 128))[0]
    assert masks.size_notice((512, 128), (512, 128)) == ()


def test_what_is_transparent_is_a_mask():
    image = layer(np.array([[0, 128, 255]], np.uint8))
    assert np.asarray(masks.from_transparency(image)).tolist() == [[255, 127, 0]]
    assert masks.is_empty(masks.from_transparency(Image.new("RGB", (3, 1))))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (41, 23)])
@pytest.mark.parametrize("px", [1, 2, 3, 7, 64])
def test_growing_takes_the_largest_value_of_a_disc(size, px):
    mask = blobs(*size, seed=px)
    values = np.asarray(mask)
    y, x = np.mgrid[:size[1], :size[0]]
    expected = np.array([[values[(y - row) ** 2 + (x - column) ** 2 <= px * px].max() for column in range(size[0])]
                         for row in range(size[1])])
    assert np.array_equal(np.asarray(masks.grow(mask, px)), expected)


def test_shrinking_mirrors_growing_and_spares_the_picture_edge():
    mask = Image.new("L", (60, 40), 255)
    assert masks.grow(mask, -20).tobytes() == mask.tobytes()
    mask.paste(0, (30, 0, 60, 40))
    shrunk = np.asarray(masks.grow(mask, -10))
    assert shrunk[:, :20].min() == 255 and shrunk[:, 20:].max() == 0


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 1), (80, 47)])
@pytest.mark.parametrize("sigma", [0.4, 1, 4, 9.5])
def test_blur_equals_a_direct_convolution(size, sigma):
    mask = blobs(*size, seed=3)
    weights = np.exp(-0.5 * (np.arange(-(n := int(2.5 * sigma + 0.5)), n + 1) / sigma) ** 2)
    weights /= weights.sum()
    assert len(kernel(sigma)) == 2 * n + 1
    values = np.pad(np.asarray(mask, float), n, mode="edge")
    for axis in (0, 1):
        values = np.apply_along_axis(np.convolve, axis, values, weights, "valid")
    assert np.abs(np.asarray(masks.soften(mask, sigma)) - values).max() <= 0.501


@pytest.mark.parametrize("sigma", [1, 4, 20, 64])
def test_blur_is_exactly_0_beyond_its_reach(sigma):
    mask = Image.new("L", (700, 600))
    mask.paste(255, (300, 250, 420, 330))
    reach = int(2.5 * sigma + 0.5)
    blurred = masks.prepare(mask, blur=sigma)
    left, top, right, bottom = blurred.getbbox()
    assert left >= 300 - reach and top >= 250 - reach and right <= 420 + reach and bottom <= 330 + reach
    assert left < 300 and right > 420


def test_a_full_and_an_empty_mask_stay_so():
    for value in (0, 255):
        mask = Image.new("L", (333, 211), value)
        assert masks.prepare(mask, blur=64, grow=9).tobytes() == mask.tobytes()


def test_prepare_inverts_then_grows_then_blurs():
    mask = Image.new("L", (200, 100))
    mask.paste(255, (0, 0, 100, 100))  # the left half
    ready = np.asarray(masks.prepare(mask, invert=True, grow=10, blur=4))
    edge = ready[50]
    assert edge[:80].max() == 0 and edge[100:].min() == 255  # the right half, 10 px wider
    assert 100 < edge[89] < 156 and 100 < edge[90] < 156  # the blur's middle lies on the grown edge


def test_prepare_leaves_its_argument_alone():
    mask = blobs(50, 40, seed=1)
    before = mask.tobytes()
    masks.prepare(mask, invert=True, grow=-3, blur=5)
    masks.prepare(mask).putpixel((0, 0), 77)
    assert mask.tobytes() == before
