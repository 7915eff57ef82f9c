"""What is said of an autoencoder's work, against independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipelines.errors import RequestError
from pipelines.lab import autoencoder


@pytest.fixture(scope="module")
def vae():
    from tests.tiny import _vae

    torch.manual_seed(0)
    return _vae().eval()


def picture(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def test_examining_equals_the_stock_encode_and_decode(vae):
    from diffusers.image_processor import VaeImageProcessor

    image = picture()
    processor = VaeImageProcessor()
    with torch.no_grad():
        latents = vae.encode(processor.preprocess(image)).latent_dist.mode()
        stock = processor.postprocess(vae.decode(latents).sample)[0]
    seen = autoencoder.examine(vae, image)
    assert torch.allclose(seen.latents, latents * vae.config.scaling_factor, atol=1e-4)
    assert np.abs(np.asarray(seen.image, int) - np.asarray(stock, int)).max() <= 1
    assert len(seen.channels) == 4
    assert seen.channels[0].size == (64, 64)
    apart = np.abs(np.asarray(seen.image, int) - np.asarray(image, int))
    assert np.abs(np.asarray(seen.difference, int) - np.clip(4 * apart, 0, 255)).max() <= 1


def test_a_tiny_autoencoder_without_posterior_can_be_examined_too():
    from diffusers import AutoencoderTiny

    tiny = AutoencoderTiny(encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
                           num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1)).eval()
    seen = autoencoder.examine(tiny, picture())
    assert seen.latents.shape == (1, 4, 8, 8)
    assert seen.image.size == (64, 64)


def test_psnr_is_the_formula_and_infinite_for_equal_pictures():
    x, y = torch.rand(1, 3, 16, 16) * 2 - 1, torch.rand(1, 3, 16, 16) * 2 - 1
    error = float(((x - y).numpy().astype(np.float64) ** 2).mean())  # over values of range 2
    assert autoencoder.psnr(x, y) == pytest.approx(10 * math.log10(4 / error))
    assert autoencoder.psnr(x, x) == math.inf


def test_ssim_equals_the_paper_computed_with_scipy():
    rng = np.random.default_rng(1)
    x = rng.random((3, 40, 48))
    y = (x + 0.2 * rng.standard_normal(x.shape)).clip(0, 1)

    def mean(one):  # an 11 x 11 Gaussian, and only where it lies inside the picture
        return gaussian_filter(one, 1.5, radius=5)[5:-5, 5:-5]

    values = []
    for a, b in zip(x, y, strict=True):
        ma, mb = mean(a), mean(b)
        va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
        values.append((((2 * ma * mb + 1e-4) * (2 * cov + 9e-4))
                       / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))).mean())
    first, second = (torch.from_numpy(one)[None] * 2 - 1 for one in (x, y))
    assert autoencoder.ssim(first, second) == pytest.approx(np.mean(values), abs=1e-9)
    assert autoencoder.ssim(first, first) == pytest.approx(1)


def test_interpolation_has_both_ends_and_spherical_keeps_the_length():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(1, 4, 16, 16, generator=generator) for _ in range(2))
    for spherical in (False, True):
        way = list(autoencoder.interpolated(a, b, 5, spherical))
        assert len(way) == 5
        assert torch.allclose(way[0], a, atol=1e-5)
        assert torch.allclose(way[-1], b, atol=1e-5)
    assert abs(float(way[2].norm()) / float(a.norm()) - 1) < 0.05
    straight = list(autoencoder.interpolated(a, b, 5))[2]
    assert torch.allclose(straight, (a + b) / 2, atol=1e-6)
    assert straight.norm() < 0.8 * a.norm()


def test_slerp_turns_by_an_even_share_of_the_angle():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    third = autoencoder.slerp(a, b, 1 / 3)
    assert torch.allclose(third, torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)]))
    assert torch.allclose(autoencoder.slerp(a, a, 0.4), a)


def test_arithmetic_is_a_weighted_sum_of_one_shape():
    a, b = torch.ones(1, 4, 2, 2), torch.full((1, 4, 2, 2), 3.0)
    assert torch.equal(autoencoder.combined([(1, a), (-0.5, b)]), torch.full((1, 4, 2, 2), -0.5))
    with pytest.raises(RequestError, match="the same size"):
        autoencoder.combined([(1, a), (1, torch.ones(1, 4, 2, 3))])
    with pytest.raises(RequestError, match="the same size"):
        list(autoencoder.interpolated(a, torch.ones(1, 4, 3, 2), 2))


def test_sides_are_cut_to_multiples_of_8_and_small_pictures_refused(vae):
    assert autoencoder.examine(vae, picture(70, 45)).image.size == (64, 40)
    with pytest.raises(RequestError, match="3 x 30 px is too small"):
        autoencoder.examine(vae, picture(3, 30))
