"""Boxes, cutting them out, pasting them back, and adding room around a picture."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import RequestError
from pipelines.images.geometry import SEAM, Box, box_around, box_for, cut, expand, paste, working_size
from tests.effort import LITTLE, effort

from .files import noise, smooth

SIZES = [(1, 1), (3, 5), (511, 333), (64, 2048), (16384, 3)]


def random_box(rng, size, width=None, height=None) -> Box:
    left, top = rng.integers(0, size[0]), rng.integers(0, size[1])
    width, height = width or rng.integers(1, size[0] - left + 1), height or rng.integers(1, size[1] - top + 1)
    return Box(int(left), int(top), int(left + width), int(top + height))


@pytest.mark.parametrize(("source", "size"), [((511, 333), (504, 328)), ((1, 1), (64, 64)), ((512, 70), (512, 64))])
def test_keep_works_at_the_source_size_rounded_down_to_8(source, size):
    assert working_size("keep", source, 640, 384) == size
    for mode in ("stretch", "crop", "fill"):
        assert working_size(mode, source, 640, 384) == (640, 384)


def test_boxes_of_the_resize_modes():
    assert box_for("stretch", (800, 600), (512, 512)) == Box(0, 0, 800, 600)
    assert box_for("keep", (803, 600), (800, 600)) == Box(0, 0, 803, 600)
    assert box_for("crop", (800, 600), (512, 512)) == Box(100, 0, 700, 600)
    assert box_for("crop", (600, 800), (512, 512)) == Box(0, 100, 600, 700)
    assert box_for("fill", (800, 600), (512, 512)) == Box(0, -100, 800, 700)
    assert box_for("fill", (600, 800), (512, 512)) == Box(-100, 0, 700, 800)


@pytest.mark.parametrize("source", SIZES)
@pytest.mark.parametrize("work", [(512, 512), (768, 512), (64, 2048)])
def test_crop_lies_inside_and_fill_covers_at_the_working_aspect(source, work):
    crop, fill = box_for("crop", source, work), box_for("fill", source, work)
    assert crop.within(source) == crop and fill.within(source) == Box(0, 0, *source)
    for box in (crop, fill):
        assert abs(box.width - box.height * work[0] / work[1]) <= max(1, work[0] / work[1])
        assert abs(box.left + box.right - source[0]) <= 1 and abs(box.top + box.bottom - source[1]) <= 1


def test_box_around_follows_the_worked_example():
    mask = Image.new("L", (400, 300))
    mask.paste(1, (100, 100, 140, 120))  # faint counts as well
    assert box_around(mask, 10, mask.size, (512, 512)) == Box(90, 80, 150, 140)
    assert box_around(mask, 10, mask.size, (512, 1024)) == Box(90, 50, 150, 170)


def test_box_around_shifts_inward_at_the_edges():
    mask = Image.new("L", (400, 300))
    mask.paste(255, (350, 0, 400, 10))
    assert box_around(mask, 0, mask.size, (512, 512)) == Box(350, 0, 400, 50)
    mask = Image.new("L", (400, 300))
    mask.paste(255, (395, 200, 400, 300))
    assert box_around(mask, 0, mask.size, (512, 512)) == Box(300, 200, 400, 300)


def test_box_around_of_an_empty_mask_is_none():
    assert box_around(Image.new("L", (40, 30)), 32, (40, 30), (512, 512)) is None


@pytest.mark.parametrize("seed", range(60))
def test_box_around_holds_the_mask_and_has_the_aspect_where_it_fits(seed):
    rng = np.random.default_rng(seed)
    size = tuple(int(side) for side in rng.integers(1, 200, 2))
    work = tuple(int(side) * 8 for side in rng.integers(8, 200, 2))
    mask = Image.new("L", size)
    mask.paste(255, random_box(rng, size).edges)
    padding = int(rng.integers(0, 40))
    box = box_around(mask, padding, size, work)
    left, top, right, bottom = mask.getbbox()
    assert box.within(size) == box
    assert box.left <= max(0, left - padding) and box.right >= min(size[0], right + padding)
    assert box.top <= max(0, top - padding) and box.bottom >= min(size[1], bottom + padding)
    aspect = work[0] / work[1]
    if box.width < size[0] and box.height < size[1]:
        assert abs(box.width - box.height * aspect) <= max(1, aspect)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_cutting_at_the_box_size_copies_pixels(mode):
    image = noise(50, 40, mode)
    box = Box(7, 5, 30, 40)
    assert cut(image, box, (23, 35)).tobytes() == image.crop(box.edges).tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("box", [Box(-3, -5, 9, 8), Box(2, 1, 20, 30), Box(-4, 2, 12, 5)])
def test_cutting_repeats_the_edge_where_the_box_sticks_out(mode, box):
    image = noise(9, 7, mode)
    values = np.asarray(image)
    rows, columns = np.arange(box.top, box.bottom).clip(0, 6), np.arange(box.left, box.right).clip(0, 8)
    assert np.array_equal(np.asarray(cut(image, box, (box.width, box.height))), values[rows][:, columns])


@pytest.mark.parametrize("source", SIZES)
@pytest.mark.parametrize("mode", ["stretch", "crop", "fill"])
@pytest.mark.parametrize("work", [(64, 2048), (512, 512), (2048, 64)])
def test_every_shape_is_cut_and_pasted_without_huge_pictures_in_between(source, mode, work):
    image = smooth(*source)
    box = box_for(mode, source, work)
    def there_and_back():
        shown = cut(image, box, work)
        return shown, paste(image, shown, box, Image.new("L", source, 255))

    (shown, back), done = effort(there_and_back)
    assert shown.size == work and back.size == source
    assert done < 2 * LITTLE


@pytest.mark.parametrize("mode", ["stretch", "crop", "fill", "keep"])
def test_cut_and_paste_are_each_others_inverse(mode):
    image = smooth(311, 223)
    work = working_size(mode, image.size, 384, 512)
    box = box_for(mode, image.size, work)
    back = paste(image, cut(image, box, work), box, Image.new("L", image.size, 255))
    difference = np.abs(np.asarray(back).astype(int) - np.asarray(image))
    assert difference.max() <= 4 and difference.mean() < 0.7


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_paste_is_exact_at_0_and_255_and_linear_between(mode):
    source, result = noise(31, 17, mode), noise(31, 17, seed=1)
    overlay = np.random.default_rng(2).choice(np.array([0, 255, 128], np.uint8), (17, 31))
    merged = np.asarray(paste(source, result, Box(0, 0, 31, 17), Image.fromarray(overlay)))
    old, new = np.asarray(source), np.asarray(result)
    assert np.array_equal(merged[overlay == 0], old[overlay == 0])
    assert np.array_equal(merged[overlay == 255][:, :3], new[overlay == 255])
    opaque = (overlay == 128) if mode == "RGB" else (overlay == 128) & (old[..., 3] == 255)
    expected = (old[..., :3] * (127 / 255) + new * (128 / 255))[opaque]
    assert np.abs(merged[opaque][:, :3] - expected).max() <= 0.5
    if mode == "RGBA":
        alpha = old[..., 3] + (255 - old[..., 3].astype(float)) * overlay / 255
        assert np.abs(merged[..., 3] - alpha).max() <= 0.5


def test_colours_hidden_under_alpha_0_do_not_shine_through():
    source = Image.new("RGBA", (1, 1), (255, 0, 0, 0))
    merged = paste(source, Image.new("RGB", (1, 1), (0, 200, 0)), Box(0, 0, 1, 1), Image.new("L", (1, 1), 100))
    assert merged.getpixel((0, 0)) == (0, 200, 0, 100)


def test_the_overlay_outside_the_box_is_ignored():
    source, result = noise(40, 30), Image.new("RGB", (64, 64), (1, 2, 3))
    box = Box(10, 5, 20, 15)
    merged = np.asarray(paste(source, result, box, Image.new("L", source.size, 255)))
    expected = np.asarray(source).copy()
    expected[5:15, 10:20] = (1, 2, 3)
    assert np.array_equal(merged, expected)


def test_an_overlay_of_another_size_and_a_box_elsewhere_are_programming_errors():
    source = noise(4, 4)
    with pytest.raises(ValueError, match="overlay"):
        paste(source, source, Box(0, 0, 4, 4), Image.new("L", (5, 4)))
    with pytest.raises(ValueError, match="outside"):
        cut(source, Box(4, 0, 8, 4), (64, 64))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (111, 83)])
@pytest.mark.parametrize("room", [(8, 0, 0, 0), (0, 16, 0, 0), (0, 0, 24, 0), (0, 0, 0, 8), (32, 8, 16, 64)])
def test_expanding_keeps_the_old_pixels_and_repaints_all_of_the_room(mode, size, room):
    image = noise(*size, mode)
    left, right, top, bottom = room
    picture, mask = expand(image, None, left, right, top, bottom)
    assert picture.size == mask.size == (size[0] + left + right, size[1] + top + bottom) and picture.mode == mode
    inner = (left, top, left + size[0], top + size[1])
    assert picture.crop(inner).tobytes() == image.tobytes()
    outside = np.ones((mask.height, mask.width), bool)
    outside[top:top + size[1], left:left + size[0]] = False
    assert np.asarray(mask)[outside].min() == 255
    if mode == "RGBA":
        assert np.asarray(picture)[outside][:, 3].min() == 255


def test_the_mask_of_the_room_runs_out_over_the_seam():
    _, mask = expand(noise(200, 100), None, left=40)
    row = np.asarray(mask)[50].astype(int)
    assert (np.diff(row[39:40 + SEAM + 1]) < 0).all() and row[40 + SEAM:].max() == 0
    assert np.array_equal(np.asarray(mask), np.broadcast_to(row, (100, 240)))


def test_expanding_keeps_what_was_painted():
    painted = Image.new("L", (200, 100))
    painted.paste(200, (0, 20, 150, 40))
    _, mask = expand(noise(200, 100), painted, left=40)
    values = np.asarray(mask)[:, 40:]
    assert (values >= np.asarray(painted)).all() and values[30, 100] == 200 and values[60, 100] == 0


def test_the_room_has_the_colours_of_the_edge():
    image = Image.new("RGB", (60, 60), (10, 200, 30))
    picture, _ = expand(image, None, 32, 32, 32, 32)
    assert np.ptp(np.asarray(picture).reshape(-1, 3), axis=0).max() <= 1


def test_no_room_changes_nothing():
    image, mask = noise(9, 9), Image.new("L", (9, 9), 3)
    picture, same = expand(image, mask)
    assert (picture.tobytes(), same.tobytes()) == (image.tobytes(), mask.tobytes())


def test_too_much_room_is_refused_by_name():
    with pytest.raises(RequestError, match="Extended picture: 4096 x 4104 px is 16.8 megapixels") as refused:
        expand(Image.new("RGB", (4096, 4096)), None, top=8)
    assert refused.value.field == "outpaint_top"
