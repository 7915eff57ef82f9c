"""Targets and weights against independent computations."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from pipelines.diffusion import losses
from pipelines.diffusion.noise_level import NoiseLevel, Prediction, add_noise, alpha_and_sigma

SCHEDULER = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
T = torch.tensor([0, 10, 300, 700, 999])
ABAR = SCHEDULER.alphas_cumprod[T]
LEVEL = ABAR.sqrt(), (1 - ABAR).sqrt()


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 5, 4, 8, 8, generator=generator)


def test_noise_and_velocity_equal_the_scheduler_s(pair):
    x0, noise = pair
    level = alpha_and_sigma(ABAR, x0)
    assert torch.allclose(add_noise(x0, noise, *level), SCHEDULER.add_noise(x0, noise, T), atol=1e-6)
    truth = Prediction(x0, x0, noise, *level)
    velocity = truth.form("v_prediction")
    assert torch.allclose(velocity, SCHEDULER.get_velocity(x0, noise, T), atol=1e-6)
    assert truth.form("epsilon") is noise
    assert truth.form("sample") is x0
    with pytest.raises(ValueError, match="nonsense"):
        truth.form("nonsense")


def test_min_snr_equals_its_paper_for_noise_and_velocity():
    ratio = compute_snr(SCHEDULER, T)
    capped = torch.minimum(ratio, torch.full_like(ratio, 5.0))
    assert torch.allclose(losses.min_snr_weight(*LEVEL, "epsilon"), capped / ratio, rtol=1e-4)
    assert torch.allclose(losses.min_snr_weight(*LEVEL, "v_prediction"), capped / (ratio + 1), rtol=1e-4)
    assert torch.allclose(losses.min_snr_weight(*LEVEL, "sample"), capped, rtol=1e-4)


@pytest.mark.parametrize("weight", [lambda kind: losses.min_snr_weight(*LEVEL, kind),
                                    lambda kind: losses.debiased_weight(*LEVEL, kind)])
def test_weights_mean_the_same_for_every_prediction(pair, weight):
    """The same wrong x0 costs the same, whatever the model predicts: weights only change the units."""
    x0, noise = pair
    level = alpha_and_sigma(ABAR, x0)
    truth = Prediction(add_noise(x0, noise, *level), x0, noise, *level)
    wrong = x0 + 0.1 * noise.flip(0)
    costs = [losses.squared_error(NoiseLevel(*level, prediction_type=kind).output(wrong, truth.x_t), truth.form(kind))
             * weight(kind) for kind in ("sample", "epsilon", "v_prediction")]
    assert torch.allclose(costs[1][1:], costs[0][1:], rtol=1e-2)
    assert torch.allclose(costs[2][1:], costs[0][1:], rtol=1e-2)


def test_weights_are_finite_at_zero_terminal_snr():
    abar = torch.tensor([0.0, 0.5, 0.9999])
    for kind in ("epsilon", "v_prediction", "sample"):
        assert torch.isfinite(losses.min_snr_weight(abar.sqrt(), (1 - abar).sqrt(), kind)).all()
        assert torch.isfinite(losses.debiased_weight(abar.sqrt(), (1 - abar).sqrt(), kind)).all()


def test_a_mask_leaves_out_what_is_black_and_normalises(pair):
    wanted, output = pair
    mask = torch.zeros(5, 1, 8, 8)
    mask[:, :, :, :4] = 1
    output = output.clone()
    half = (output - wanted)[..., :4].square().flatten(1).mean(1)
    assert torch.allclose(losses.squared_error(output, wanted, mask), half, rtol=1e-5)
    output[..., 4:] = 1e6
    assert torch.allclose(losses.squared_error(output, wanted, mask), half, rtol=1e-5)
    assert torch.isfinite(losses.squared_error(output, wanted, torch.zeros_like(mask))).all()


def test_prior_preservation_adds_the_regularisation_pictures_with_their_weight():
    errors, weights = torch.tensor([1.0, 3.0, 10.0, 20.0]), torch.tensor([1.0, 1.0, 0.5, 0.5])
    assert losses.total(errors, weights, 2).item() == pytest.approx((1 + 3) / 2 + 0.5 * (10 + 20) / 2)
    parts = losses.total(errors[:1], weights[:1], 2) + losses.total(errors[1:], weights[1:], 2)
    assert parts.item() == pytest.approx(losses.total(errors, weights, 2).item())


def test_noise_offset_shifts_whole_channels(pair):
    noise = pair[0]
    shift = torch.randn(5, 4, 1, 1, generator=torch.Generator().manual_seed(1))
    moved = losses.offset_noise(noise, shift, 0.1) - noise
    assert torch.allclose(moved, (0.1 * shift).expand_as(noise), atol=1e-6)
