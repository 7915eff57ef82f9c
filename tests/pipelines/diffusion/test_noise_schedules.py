"""Every formula of noise_schedules.py against diffusers, against the papers' own words, or against drawn samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipelines.diffusion import losses, noise_schedules
from pipelines.diffusion.noise_level import PREDICTION_TYPES, SHORT_NAMES, Prediction, read_prediction
from pipelines.errors import RequestError


@pytest.mark.parametrize(("name", "config"), [
    ("linear", {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
    ("scaled linear", {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
    ("cosine", {"beta_schedule": "squaredcos_cap_v2"}),
    ("zero terminal SNR", {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
                           "rescale_betas_zero_snr": True}),
])
def test_a_schedule_of_1000_equals_the_one_of_diffusers(name, config):
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(num_train_timesteps=1000, **config)
    ours = noise_schedules.make(name, 1000)
    assert torch.allclose(ours.alphas_cumprod, theirs.alphas_cumprod.double(), atol=2e-6)
    assert torch.allclose(ours.betas, theirs.betas.double(), atol=2e-5)


def test_flow_sigmas_equal_those_of_flow_matching_in_diffusers():
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0)
    ours = noise_schedules.flow(1000, shift=3.0)
    assert torch.allclose(ours.sigma.flip(0), theirs.sigmas.double()[:1000], atol=1e-6)
    assert torch.equal(ours.alpha, 1 - ours.sigma)


@pytest.mark.parametrize("name", noise_schedules.SCHEDULES)
@pytest.mark.parametrize("timesteps", [10, 37, 400])
def test_every_schedule_goes_from_almost_clean_to_almost_noise(name, timesteps):
    schedule = noise_schedules.make(name, timesteps)
    assert (schedule.snr.diff() < 0).all()
    assert schedule.snr[0] > 5
    assert schedule.snr[-1] < 0.02


def test_the_last_step_of_a_zero_terminal_snr_is_noise_alone():
    assert noise_schedules.make("zero terminal SNR", 50).alpha[-1] == 0
    assert noise_schedules.make("flow", 50).alpha[-1] == 0


def test_signal_and_noise_add_up_as_when_noise_is_added_step_by_step():
    schedule = noise_schedules.make("cosine", 20)
    signal, variance = 1.0, 0.0
    for beta, alpha, sigma in zip(schedule.betas, schedule.alpha, schedule.sigma, strict=True):
        signal, variance = signal * math.sqrt(1 - beta), variance * (1 - beta) + beta  # DDPM eq. 2, again and again
        assert signal == pytest.approx(float(alpha), abs=1e-12)
        assert variance == pytest.approx(float(sigma) ** 2, abs=1e-12)


def test_noised_equals_the_forward_process_of_diffusers():
    from diffusers import DDPMScheduler

    x0, noise, t = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4), torch.tensor([0, 500, 999])
    ours = noise_schedules.noised(noise_schedules.make("linear", 1000), x0, noise, t)
    assert torch.allclose(ours, DDPMScheduler(beta_end=0.02).add_noise(x0, noise, t), atol=1e-5)


def test_the_posterior_equals_a_regression_on_drawn_samples():
    """Draw x_s and x_t from the forward process, and let least squares find E[x_s | x_t] and what is left over."""
    schedule, x0 = noise_schedules.make("flow", 100), 0.7
    now, before = ((float(schedule.alpha[t]), float(schedule.sigma[t])) for t in (70, 40))
    rng = np.random.default_rng(0)
    count = 400_000
    x_s = before[0] * x0 + before[1] * rng.standard_normal(count)
    ratio = now[0] / before[0]
    x_t = ratio * x_s + math.sqrt(now[1] ** 2 - (ratio * before[1]) ** 2) * rng.standard_normal(count)
    slope, offset = np.polyfit(x_t, x_s, 1)
    at_zero, variance = noise_schedules.posterior(torch.tensor(x0), torch.tensor(0.0), now, before)
    at_one, _ = noise_schedules.posterior(torch.tensor(x0), torch.tensor(1.0), now, before)
    assert float(at_zero) == pytest.approx(offset, abs=5e-3)
    assert float(at_one - at_zero) == pytest.approx(slope, abs=5e-3)
    assert variance == pytest.approx(np.var(x_s - slope * x_t - offset), abs=2e-3)


def test_the_posterior_of_neighbours_is_equation_7_of_ddpm():
    schedule, t = noise_schedules.make("linear", 1000), 300
    beta, abar = float(schedule.betas[t]), schedule.alphas_cumprod
    now, before = ((float(schedule.alpha[i]), float(schedule.sigma[i])) for i in (t, t - 1))
    x0, x_t = torch.tensor(0.3), torch.tensor(-1.2)
    mean, variance = noise_schedules.posterior(x0, x_t, now, before)
    wanted = (abar[t - 1].sqrt() * beta / (1 - abar[t]) * x0
              + math.sqrt(1 - beta) * (1 - abar[t - 1]) / (1 - abar[t]) * x_t)
    assert float(mean) == pytest.approx(float(wanted), abs=1e-6)
    assert variance == pytest.approx(float((1 - abar[t - 1]) / (1 - abar[t]) * beta), rel=1e-9)


def test_the_step_before_the_first_is_the_clean_picture():
    x0 = torch.tensor(0.4)
    mean, variance = noise_schedules.posterior(x0, torch.tensor(3.0), (0.9, 0.4), (1.0, 0.0))
    assert float(mean) == pytest.approx(0.4)
    assert variance == 0


@pytest.mark.parametrize("prediction", [*SHORT_NAMES, *PREDICTION_TYPES])
@pytest.mark.parametrize(("alpha", "sigma"), [(0.8, 0.6), (0.3, 0.7), (0.999, 0.045)])
def test_each_form_of_a_prediction_gives_all_others_back(prediction, alpha, sigma):
    x0, eps = torch.randn(2, 1, 3, 3).double(), torch.randn(2, 1, 3, 3).double()
    truth = Prediction(alpha * x0 + sigma * eps, x0, eps, alpha, sigma)
    read = read_prediction(prediction, truth.form(prediction), truth.x_t, alpha, sigma)
    for form in PREDICTION_TYPES:
        assert torch.allclose(read.form(form), truth.form(form), atol=1e-9)


def test_v_equals_the_velocity_of_diffusers():
    from diffusers import DDPMScheduler

    scheduler, schedule = DDPMScheduler(), noise_schedules.make("linear", 1000)
    x0, noise, t = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3), torch.tensor([10, 800])
    ours = Prediction(noise_schedules.noised(schedule, x0, noise, t), x0, noise, *schedule.at(t, x0)).v
    assert torch.allclose(ours, scheduler.get_velocity(x0, noise, t), atol=1e-5)


def test_the_score_is_the_gradient_of_the_logarithm_of_the_density():
    x0, alpha, sigma = torch.tensor(0.2).double(), 0.8, 0.6
    x_t = torch.tensor(1.1).double().requires_grad_()
    torch.distributions.Normal(alpha * x0, sigma).log_prob(x_t).backward()
    seen = read_prediction("x0", x0, x_t.detach(), alpha, sigma)
    assert float(seen.score) == pytest.approx(float(x_t.grad))


def test_the_bound_weighs_as_the_divergence_between_true_and_predicted_step():
    """DDPM eq. 8: KL between two normals of one variance is the squared difference of means over twice the variance."""
    schedule, t = noise_schedules.make("linear", 1000), 200
    beta, abar = float(schedule.betas[t]), float(schedule.alphas_cumprod[t])

    def mean(eps: float) -> float:  # eq. 11 without x_t, which is the same in both
        return -beta / math.sqrt(1 - abar) * eps / math.sqrt(1 - beta)

    divergence = (mean(0.5) - mean(0.1)) ** 2 / (2 * beta)
    assert float(noise_schedules.bound_weight(schedule)[t]) * 0.4**2 == pytest.approx(divergence)


@pytest.mark.parametrize("prediction", [*SHORT_NAMES, *PREDICTION_TYPES])
def test_an_error_of_any_prediction_weighs_as_its_error_of_x0(prediction):
    schedule = noise_schedules.make("linear", 100)
    x_t, right, wrong = torch.tensor(0.5).double(), torch.tensor(0.1).double(), torch.tensor(0.3).double()
    for t in (0, 50, 99):
        alpha, sigma = schedule.alpha[t], schedule.sigma[t]
        forms = [read_prediction("x0", x0, x_t, alpha, sigma).form(prediction) for x0 in (right, wrong)]
        weight = (forms[1] - forms[0]) ** 2 / (wrong - right) ** 2
        ours = losses.x0_weight(schedule.alpha, schedule.sigma, prediction)[t]
        assert float(ours) == pytest.approx(float(weight), rel=1e-6)


def test_min_snr_of_noise_prediction_is_the_papers_table():
    schedule = noise_schedules.make("scaled linear", 1000)
    snr, level = schedule.snr, (schedule.alpha, schedule.sigma)
    capped = torch.minimum(snr, torch.tensor(5.0))
    assert torch.allclose(losses.min_snr_weight(*level, "noise"), capped / snr)
    assert torch.allclose(losses.min_snr_weight(*level, "v"), capped / (snr + 1))


def test_one_timestep_and_an_unknown_schedule_are_refused_by_name():
    with pytest.raises(RequestError, match="Timesteps: 1 is not possible"):
        noise_schedules.make("linear", 1)
    with pytest.raises(RequestError, match="'quadratic' is unknown. Known are linear"):
        noise_schedules.make("quadratic", 100)
