"""The two samplers against diffusers' schedulers on the same noise, and what every sampler must keep."""

from __future__ import annotations

import pytest
import torch

from pipelines.diffusion import noise_schedules
from pipelines.diffusion.noise_level import read_prediction
from pipelines.errors import RequestError
from pipelines.lab import networks, sampling
from pipelines.lab.sampling import ddim, ddpm, denoiser_of, last

NAMES = {"noise": "epsilon", "x0": "sample", "v": "v_prediction"}


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """A random network with three classes whose answers are not 0."""
    torch.manual_seed(0)
    network = networks.build(networks.Shape(channels=1, classes=3, width=16))
    torch.nn.init.normal_(network.head[-1].weight, std=0.05)
    return network.eval().requires_grad_(False)


def noise(count: int, seed: int = 3) -> tuple[torch.Tensor, list[torch.Generator]]:
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    return torch.stack([torch.randn(1, 8, 8, generator=one) for one in generators]), generators


def diffusers_walk(scheduler, network, prediction, x, generators, **options) -> torch.Tensor:
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = network(x, t.expand(len(x)), None)
            x = scheduler.step(output, t, x, generator=generators, **options).prev_sample
    return x


@pytest.mark.parametrize("prediction", ["noise", "x0", "v"])
@pytest.mark.parametrize("clip", [True, False])
def test_ddpm_equals_the_scheduler_of_diffusers(network, prediction, clip):
    from diffusers import DDPMScheduler

    schedule = noise_schedules.make("linear", 100)
    scheduler = DDPMScheduler(100, trained_betas=schedule.betas.numpy(), prediction_type=NAMES[prediction],
                              clip_sample=clip)
    assert torch.allclose(scheduler.alphas_cumprod.double(), schedule.alphas_cumprod, atol=1e-6)
    # Their table in double precision: a hundred steps would blow its rounding up, and only the equations are compared.
    scheduler.alphas_cumprod, scheduler.betas = schedule.alphas_cumprod, schedule.betas
    x, generators = noise(2)
    ours = last(ddpm(denoiser_of(network, prediction, clip=clip), schedule, x, generators)).x
    x, generators = noise(2)
    theirs = diffusers_walk(scheduler, network, prediction, x, generators)
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("prediction", ["noise", "x0", "v"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("spacing", "steps"), [("leading", 10), ("trailing", 20), ("leading", 100)])
def test_ddim_equals_the_scheduler_of_diffusers(network, prediction, eta, spacing, steps):
    from diffusers import DDIMScheduler

    schedule = noise_schedules.make("linear", 100)
    scheduler = DDIMScheduler(100, trained_betas=schedule.betas.numpy(), prediction_type=NAMES[prediction],
                              timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    assert torch.allclose(scheduler.alphas_cumprod.double(), schedule.alphas_cumprod, atol=1e-6)
    scheduler.alphas_cumprod = schedule.alphas_cumprod
    x, generators = noise(2)
    ours = last(ddim(denoiser_of(network, prediction), schedule, x, generators, steps, eta, spacing)).x
    x, generators = noise(2)
    theirs = diffusers_walk(scheduler, network, prediction, x, generators, eta=eta, use_clipped_model_output=True)
    assert (ours - theirs).abs().max() < 1e-5


def test_ddim_with_all_steps_and_eta_1_is_ddpm(network):
    schedule = noise_schedules.make("cosine", 50)
    x, generators = noise(2)
    ancestral = last(ddpm(denoiser_of(network, "v"), schedule, x, generators)).x
    x, generators = noise(2)
    implicit = last(ddim(denoiser_of(network, "v"), schedule, x, generators, 50, eta=1.0)).x
    assert (ancestral - implicit).abs().max() < 1e-5


@pytest.mark.parametrize("name", noise_schedules.SCHEDULES)
@pytest.mark.parametrize("steps", [1, 7, 40])
def test_a_denoiser_that_knows_the_picture_is_led_to_it_under_every_schedule(name, steps):
    target = torch.full((1, 1, 8, 8), 0.3)
    x, generators = noise(1)
    states = list(ddim(lambda x, level: target, noise_schedules.make(name, 40), x, generators, steps, eta=0.7))
    assert torch.allclose(states[-1].x, target)
    assert [state.step for state in states] == list(range(1, steps + 1))
    assert all(state.steps == steps for state in states)


def test_ddpm_draws_from_the_distribution_that_the_best_denoiser_describes():
    """For pixels that are normal with mean 0.4 and deviation 0.3, the best denoiser is known in closed form."""
    mean, deviation = 0.4, 0.3
    schedule = noise_schedules.make("linear", 1000)

    def best(x: torch.Tensor, level: sampling.Level) -> torch.Tensor:
        gain = level.alpha * deviation**2 / (level.alpha**2 * deviation**2 + level.sigma**2)
        return mean + gain * (x - level.alpha * mean)

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 1, 100, 100, generator=generator)
    drawn = last(ddpm(best, schedule, x, [generator])).x
    assert float(drawn.mean()) == pytest.approx(mean, abs=0.01)
    assert float(drawn.std()) == pytest.approx(deviation, abs=0.01)


def test_strides_cover_any_number_of_steps_from_the_noisiest_down():
    assert sampling.strides(1000, 4) == [999, 749, 499, 249]
    assert sampling.strides(1000, 4, "leading") == [750, 500, 250, 0]
    assert sampling.strides(10, 10) == list(range(9, -1, -1))
    odd = sampling.strides(1000, 7)
    assert odd[0] == 999 and len(set(odd)) == 7 and odd == sorted(odd, reverse=True)
    with pytest.raises(RequestError, match="Steps: 11 is not possible. The model has 10 timesteps"):
        sampling.strides(10, 11)


def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch(network):
    schedule = noise_schedules.make("cosine", 50)
    x, generators = noise(3)
    together = last(ddim(denoiser_of(network, "v"), schedule, x, generators, 10, eta=1.0)).x
    x, generators = noise(1, seed=5)
    alone = last(ddim(denoiser_of(network, "v"), schedule, x, generators, 10, eta=1.0)).x
    assert torch.allclose(together[2:], alone, atol=1e-5)


def test_class_guidance_is_the_difference_from_no_class_taken_w_times(network):
    context = sampling.mixed_context({1: 1.0}, 3, 2)
    x, _ = noise(2)
    level = sampling.Level(20, 0.6, 0.8)

    def x0(told: torch.Tensor) -> torch.Tensor:
        return read_prediction("noise", network(x, torch.full((2,), 20), told), x, 0.6, 0.8).x0

    guided = denoiser_of(network, "noise", context, guidance_scale=3.0, clip=False)(x, level)
    nothing, wanted = x0(torch.zeros(2, 3)), x0(context)
    assert not torch.allclose(nothing, wanted)
    assert torch.allclose(guided, nothing + 3 * (wanted - nothing), atol=1e-5)
    plain = denoiser_of(network, "noise", context, guidance_scale=1.0, clip=False)(x, level)
    assert torch.allclose(plain, wanted, atol=1e-6)


def test_a_blend_of_classes_lies_between_them_and_equals_neither(network):
    x, _ = noise(1)
    level = sampling.Level(20, 0.6, 0.8)
    pictures = [denoiser_of(network, "x0", sampling.mixed_context(weights, 3, 1))(x, level)
                for weights in ({0: 1.0}, {2: 1.0}, {0: 0.5, 2: 0.5})]
    first, second, blend = pictures
    apart = (first - second).norm()
    assert 0 < (blend - first).norm() < apart
    assert 0 < (blend - second).norm() < apart
    with pytest.raises(RequestError, match="Class: 3 is not possible. The model has classes 0 to 2"):
        sampling.mixed_context({3: 1.0}, 3, 1)
