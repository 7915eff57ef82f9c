"""The samplers of Atelier 0.1.0, with every schedule that they offered, on the real diffusers schedulers."""

from __future__ import annotations

import inspect

import pytest

from pipelines.errors import RequestError
from pipelines.generation import library_schedulers as samplers
from pipelines.generation.samplers import late_timesteps

CONFIG = dict(num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
              steps_offset=1, set_alpha_to_one=True, skip_prk_steps=True, clip_sample=False,
              timestep_spacing="leading")


def schedules_for(name):
    return [schedule for schedule in samplers.SCHEDULES if samplers._fits(samplers.SAMPLERS[name], schedule)]


PAIRS = [(name, schedule) for name in samplers.SAMPLERS for schedule in schedules_for(name)]


def walk(name, schedule, prediction_type, x0, latents, steps=8):
    """Denoise with a model that always means x0, given through NoiseLevel.output."""
    import torch

    scheduler = samplers.make(name, schedule, {**CONFIG, "prediction_type": prediction_type}, steps, "cpu")
    latents = latents * scheduler.init_noise_sigma
    generators = [torch.Generator().manual_seed(5)]
    kwargs = {"generator": generators} if "generator" in inspect.signature(scheduler.step).parameters else {}
    for i, t in enumerate(scheduler.timesteps):
        level = samplers._level(name, scheduler, t, i)
        scheduler.scale_model_input(latents, t)
        output = level.output(x0, latents)
        torch.testing.assert_close(level.x0(output, latents), x0, atol=2e-4, rtol=1e-3)
        latents = scheduler.step(output, t, latents, **kwargs, return_dict=False)[0]
    return latents


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("name", "schedule"), PAIRS)
def test_a_perfect_model_leads_every_sampler_to_its_picture(name, schedule, prediction_type):
    import torch

    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    end = walk(name, schedule, prediction_type, x0, noise)
    # DEIS and PLMS end one noise level before 0.
    torch.testing.assert_close(end, x0, atol=0.2 if name in ("DEIS", "PLMS") else 2e-3, rtol=0)


@pytest.mark.parametrize(("name", "schedule"), PAIRS)
def test_one_step_leads_from_noise_to_the_picture(name, schedule):
    import torch

    scheduler = samplers.make(name, schedule, CONFIG, 1, "cpu")
    assert len(scheduler.timesteps) == 1 and scheduler.timesteps[0] > 990
    x0, noise = torch.full((1, 4, 2, 2), 0.5), torch.ones(1, 4, 2, 2)
    torch.testing.assert_close(walk(name, schedule, "v_prediction", x0, noise, steps=1), x0, atol=0.05, rtol=0)


@pytest.mark.parametrize(("name", "schedule"), [("LCM", "Automatic"), ("DPM++ 2M", "Beta"), ("DPM++ SDE", "Beta"),
                                                ("UniPC", "Beta")])
def test_a_sampler_walks_many_steps_to_the_end(name, schedule):
    import torch

    x0, noise = torch.full((1, 4, 2, 2), 0.5), torch.ones(1, 4, 2, 2)
    torch.testing.assert_close(walk(name, schedule, "epsilon", x0, noise, steps=60), x0, atol=2e-3, rtol=0)


@pytest.mark.parametrize(("steps", "strength"), [(20, 0.95), (20, 0.3), (20, 0.05), (2, 0.5)])
def test_plms_begins_anew_where_an_image_to_image_run_begins(steps, strength):
    """The library's class takes the run's second step for a repeated one, and ends a noise level early."""
    import torch

    scheduler = samplers.LibraryWalk("PLMS", "Automatic", CONFIG, steps, "cpu")
    x0, noise = torch.full((1, 4, 2, 2), 0.5), torch.ones(1, 4, 2, 2)
    timesteps, _ = late_timesteps(scheduler, steps, strength)
    latents = scheduler.add_noise(x0, noise, timesteps[:1])
    scheduler.begin(latents, [torch.Generator()])
    while scheduler.running:
        latents = scheduler.advance(scheduler.level(scheduler._index).output(x0, latents))
    torch.testing.assert_close(latents, x0, atol=1e-4, rtol=0)


@pytest.mark.parametrize("schedule", schedules_for("DPM2"))
@pytest.mark.parametrize("name", ["DPM2", "DPM2 a"])
def test_dpm2_takes_no_float64_to_a_device(name, schedule):
    import torch

    scheduler = samplers.make(name, schedule, CONFIG, 9, "meta")
    assert (scheduler.timesteps.dtype, scheduler.timesteps.device.type) == (torch.float32, "meta")
    assert scheduler.sigmas.device.type == "cpu"


@pytest.mark.parametrize(("name", "schedule"), PAIRS)
def test_a_scheduler_is_that_of_the_library_and_places_only_the_steps_that_are_taken(name, schedule):
    """Some of the library's constructors place all 1000 training timesteps first, in up to a second."""
    import cProfile
    import pstats

    import diffusers

    with cProfile.Profile() as profile:
        made = samplers.make(name, schedule, CONFIG, 7, "cpu")
    placed = sum(calls for (_, _, function), (_, calls, *_) in pstats.Stats(profile).stats.items()
                 if function in ("_sigma_to_t", "ppf"))
    assert placed < 100
    row = samplers.SAMPLERS[name]
    if row.scheduler in samplers._PLACE_ALL:
        plain = getattr(diffusers, row.scheduler).from_config(made.config)
        plain.set_timesteps(7)
        assert isinstance(made, type(plain)) and made.config == plain.config
        assert made.sigmas.tolist() == plain.sigmas.tolist()
        assert made.timesteps.tolist() == plain.timesteps.to(made.timesteps.dtype).tolist()


@pytest.mark.parametrize("name", samplers.SAMPLERS)
def test_schedules_space_the_steps_differently(name):
    spacings = {}
    for schedule in schedules_for(name):
        if schedule != "Automatic":
            scheduler = samplers.make(name, schedule, CONFIG, 7, "cpu")
            levels = scheduler.sigmas if hasattr(scheduler, "sigmas") else scheduler.timesteps
            spacings[schedule] = tuple(round(float(level), 3) for level in levels)
    assert len(set(spacings.values())) == len(spacings)


@pytest.mark.parametrize("schedule", ["Karras", "Exponential", "Beta"])
def test_euler_a_takes_the_sigmas_of_euler(schedule):
    ancestral = samplers.make("Euler a", schedule, CONFIG, 9, "cpu")
    plain = samplers.make("Euler", schedule, CONFIG, 9, "cpu")
    assert ancestral.sigmas.tolist() == plain.sigmas.tolist()
    assert ancestral.timesteps.tolist() == plain.timesteps.tolist()


def test_each_run_gets_a_scheduler_of_its_own():
    first, second = (samplers.make("DPM++ 2M", "Karras", CONFIG, steps, "cpu") for steps in (5, 9))
    assert len(first.timesteps) == 5 and len(second.timesteps) == 9


@pytest.mark.parametrize("name", ["DDIM", "DDPM", "LCM"])
def test_latents_are_never_clipped_even_when_the_checkpoint_does_not_say_so(name):
    config = {key: value for key, value in CONFIG.items() if key != "clip_sample"}
    assert samplers.make(name, "Automatic", config, 5, "cpu").config.clip_sample is False


def test_schedule_that_does_not_fit_is_refused_with_those_that_do():
    with pytest.raises(RequestError, match="'Karras' does not go with the sampler DDIM. Possible are Automatic"):
        samplers.check("DDIM", "Karras")


def test_the_table_is_read_without_torch():
    import subprocess
    import sys

    code = "import sys, pipelines.generation.samplers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
