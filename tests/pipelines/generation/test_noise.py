"""Varied noise stays noise, and its two ends are the two seeds."""

from __future__ import annotations

import pytest

SHAPE = (2, 4, 16, 16)


def draws(strength, first=(1, 2), second=(8, 9)):
    import torch

    from pipelines.generation.noise import Draws

    generators, variations = (tuple(torch.Generator().manual_seed(seed) for seed in seeds) for seeds in (first, second))
    return Draws(generators, variations, strength).noise(SHAPE, "cpu", torch.float32)


def test_strength_walks_from_one_seed_to_the_other():
    import torch

    start, end = draws(0.0), draws(0.0, first=(8, 9))
    torch.testing.assert_close(draws(1.0), end, atol=1e-5, rtol=1e-5)
    assert torch.equal(draws(0.0), start)
    distances = [float((draws(t) - start).norm()) for t in (0.1, 0.4, 0.7, 1.0)]
    assert distances == sorted(distances) and distances[0] > 0


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.9])
def test_varied_noise_has_unit_variance(strength):
    assert float(draws(strength).std()) == pytest.approx(1, abs=0.05)


def test_each_picture_is_varied_alone():
    import torch

    from pipelines.generation.noise import slerp

    together = draws(0.3)
    one = slerp(draws(0.0)[:1], draws(1.0)[:1], 0.3)
    torch.testing.assert_close(together[:1], one, atol=1e-5, rtol=1e-5)


def test_parallel_noise_is_mixed_without_dividing_by_zero():
    import torch

    from pipelines.generation.noise import slerp

    a = torch.randn(SHAPE)
    torch.testing.assert_close(slerp(a, a, 0.5), a)
