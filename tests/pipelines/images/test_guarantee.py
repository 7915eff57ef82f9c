"""Where the blurred mask is 0, the picture that comes out is byte for byte the one that went in."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipelines.images import geometry, mask
from pipelines.images.convert import flatten
from pipelines.images.fill import fill
from pipelines.images.store import ImageStore

from .files import encoded, noise, profile

SIZES = ((1, 1), (3, 5), (2, 61), (64, 64), (97, 131), (511, 333))
WORK = ((64, 64), (128, 64), (64, 192))
MODES = ("stretch", "crop", "fill", "keep", "only masked")


def painted(rng, size: tuple[int, int]) -> Image.Image:
    """Strokes of random grey, many of them at the borders and corners."""
    layers = []
    for _ in range(rng.integers(1, 4)):
        layer = Image.new("RGBA", size)
        width, height = (int(rng.integers(1, max(2, side // 3))) for side in size)
        left, top = (int(rng.choice([0, side - span, rng.integers(0, side)])) for side, span
                     in zip(size, (width, height), strict=True))
        layer.paste((0, 0, 0, int(rng.integers(1, 256))), (left, top, left + width, top + height))
        layers.append(layer)
    return mask.from_editor(layers, size)


@pytest.mark.parametrize("seed", range(200))
def test_unmasked_pixels_survive_the_whole_chain(seed, tmp_path):
    rng = np.random.default_rng(seed)
    size, picture_mode = SIZES[rng.integers(len(SIZES))], ("RGB", "RGBA")[rng.integers(2)]
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    options = {"icc_profile": profile("RGB")} if rng.integers(2) else {}
    store = ImageStore(tmp_path)
    source = store.open(store.add(encoded(noise(*size, picture_mode, seed), exif=exif, **options)).id)

    overlay = mask.prepare(painted(rng, source.size), invert=bool(rng.integers(2)), grow=int(rng.integers(-6, 7)),
                           blur=float(rng.choice([0, 0.5, 2, 4, 15])))
    if rng.integers(2):
        room = {side: 8 * int(rng.integers(0, 4)) for side in ("left", "right", "top", "bottom")}
        source, overlay = geometry.expand(source, overlay, **room)
    work, mode = WORK[rng.integers(len(WORK))], MODES[rng.integers(len(MODES))]
    if mode == "only masked":
        box = geometry.box_around(overlay, int(rng.integers(0, 40)), source.size, work)
    else:
        work = geometry.working_size(mode, source.size, *work)
        box = geometry.box_for(mode, source.size, work)
    if box is None:
        assert mask.is_empty(overlay)
        return
    start, seen = geometry.cut(flatten(source), box, work), geometry.cut(overlay, box, work)
    assert fill(start, seen).size == start.size == seen.size == work
    final = geometry.paste(source, noise(*work, seed=seed + 1), box, overlay)

    assert (final.size, final.mode) == (source.size, source.mode)
    before, after, weight = np.asarray(source), np.asarray(final), np.asarray(overlay)
    assert np.array_equal(after[weight == 0], before[weight == 0])
    shown = box.within(source.size)
    covered = np.zeros(weight.shape, bool)
    covered[shown.top:shown.bottom, shown.left:shown.right] = True
    repainted = covered & (weight > 200)
    assert np.array_equal(after[~covered], before[~covered])
    if repainted.sum() > 50:
        assert (after[repainted] != before[repainted]).any(-1).mean() > 0.9
