"""Shapes, crops and order: nothing is dropped, nothing comes too often."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from pipelines.training.dataset.buckets import crop_variants, nearest, order, shapes


@pytest.mark.parametrize(("resolution", "step"), [(512, 64), (1024, 64), (128, 32), (64, 16), (32, 64)])
def test_shapes_divide_by_the_step_and_hold_no_more_than_the_area(resolution, step):
    found = shapes(resolution, step)
    side = max(resolution, step)
    assert (side, side) in found
    for width, height in found:
        assert width % step == height % step == 0
        assert width * height <= side**2 and max(width / height, height / width) <= 2.01
        assert (height, width) in found


def test_every_picture_finds_a_bucket_however_long_it_is():
    choices = shapes(512, 64)
    assert nearest((10_000, 64), choices)[0] > nearest((10_000, 64), choices)[1]
    assert nearest((64, 10_000), choices)[0] < nearest((64, 10_000), choices)[1]
    assert nearest((300, 300), choices) == (512, 512)


@pytest.mark.parametrize("update_size", [1, 3, 4, 7, 50])
@pytest.mark.parametrize("repeats", [1, 3])
def test_every_picture_comes_equally_often(update_size, repeats):
    groups = ["wide"] * 9 + ["tall"] * 4 + ["square"]
    epochs = 6 * update_size  # then the rest that is carried over is used up
    items = len(groups) * repeats * epochs
    updates = order(groups, update_size, 0, [repeats] * len(groups))
    seen = Counter(index for update in islice(updates, items // update_size) for index in update)
    assert seen == {index: repeats * epochs for index in range(len(groups))}


def test_most_updates_hold_one_bucket():
    groups = ["wide"] * 40 + ["tall"] * 40
    updates = list(islice(order(groups, 4, 0), 40))
    assert all(len({groups[index] for index in update}) == 1 for update in updates)


def test_the_order_follows_from_the_seed():
    groups = ["a", "b"] * 20
    first, again, other = (list(islice(order(groups, 3, seed), 40)) for seed in (1, 1, 2))
    assert first == again != other
    assert list(islice(order(groups, 3, 1), 10, 40)) == first[10:]


def test_crops_lie_within_the_picture_and_have_the_bucket_s_shape():
    for size in ((1000, 500), (500, 1000), (333, 777), (512, 512)):
        for crop in ("center", "top", "random"):
            for box in crop_variants(size, (512, 512), crop):
                assert 0 <= box.left < box.right <= size[0] and 0 <= box.top < box.bottom <= size[1]
                assert box.width == pytest.approx(box.height, abs=1)
    assert len(crop_variants((1000, 500), (512, 512), "random")) == 4
    assert crop_variants((500, 1000), (512, 512), "top")[0].top == 0
