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


def drawn(shape=(1, 4, 16, 16), seeds=(5,), **values):
    """(first noise, noise of the first step) of a request's pictures."""
    import torch

    from pipelines.generation.noise import Draws, unit_noise
    from pipelines.requests import Txt2Img, make

    made = Draws.of(make(Txt2Img, sampler="Euler a", schedule="Automatic", **values), seeds, (), torch.device("cpu"))
    first = made.noise(shape, torch.device("cpu"), torch.float32)
    return first, unit_noise(made.later or made.generators, shape, torch.device("cpu"), torch.float32)


def test_an_nvidia_cards_noise_is_drawn_anywhere():
    import torch

    from pipelines.diffusion.philox import Philox

    card = Philox(5)
    expected = [torch.from_numpy(card.normal((1, 4, 16, 16))) for _ in range(2)]
    assert all(map(torch.equal, drawn(noise_source="NV"), expected))
    assert not torch.equal(drawn()[0], expected[0])
    assert all(map(torch.equal, drawn(noise_source="GPU"), drawn())), "here the processor computes"


@pytest.mark.parametrize("kind", ["CPU", "NV"])
def test_a_seed_of_later_noise_leaves_the_first_as_it_is(kind):
    import torch

    (first, later), (same, other) = drawn(noise_source=kind), drawn(noise_source=kind, noise_delta=31337)
    assert torch.equal(first, same) and not torch.equal(later, other)
    assert torch.equal(other, drawn(noise_source=kind, seeds=(5 + 31337,))[0]), "the first draw of the other seed"


@pytest.mark.parametrize(("size", "of", "into"), [
    ((64, 96), (slice(0, 8), slice(0, 12)), (slice(4, 12), slice(2, 14))),
    ((256, 128), (slice(8, 24), slice(0, 16)), (slice(0, 16), slice(0, 16)))])
def test_noise_of_another_size_lies_in_the_middle(size, of, into):
    import torch

    height, width = size
    small = drawn((1, 4, height // 8, width // 8))[0]
    made, plain = drawn(seed_resize_width=width, seed_resize_height=height)[0], drawn()[0]
    assert torch.equal(made[..., into[0], into[1]], small[..., of[0], of[1]])
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[into] = False
    assert torch.equal(made[..., outside], plain[..., outside])


def test_each_picture_of_a_batch_has_its_own():
    import torch

    both = drawn((2, 4, 16, 16), (5, 6), noise_source="NV")[0]
    assert torch.equal(both[1:], drawn(seeds=(6,), noise_source="NV")[0])
