"""Against figures that AUTOMATIC1111's NV noise has printed."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.diffusion.philox import Philox


@pytest.mark.parametrize(("seed", "shape", "first", "second"), [
    (0, (4, 2, 2), (-0.924662, -0.425344, -2.643846, 0.145184), (0.180826, -0.552263, 0.923813, -0.73497)),
    (1234, (4, 8, 8), (-1.61649, 0.568455, -0.510225, -0.911339), (0.633083, 1.635822, -0.345863, 1.019553)),
    (2**32 - 1, (4, 8, 8), (-0.034158, 0.390445, 1.527235, 0.18699), (-0.87534, 0.450503, -0.110095, -0.25343))])
def test_both_draws_are_those_of_the_card(seed, shape, first, second):
    noise = Philox(seed)
    for expected in (first, second):
        drawn = noise.normal(shape)
        assert drawn.shape == shape and drawn.dtype == np.float32
        assert drawn.ravel()[:4] == pytest.approx(expected, abs=2e-6)
