"""Every name with every schedule: what it walks along, how often it asks, and that a perfect model leads it home."""

from __future__ import annotations

import inspect
from itertools import product

import pytest

from pipelines.diffusion.sigma_schedules import Bounds, ModelLevels
from pipelines.errors import RequestError
from pipelines.generation import samplers
from pipelines.generation.samplers import SAMPLERS, SCHEDULES, late_steps, late_timesteps, sigmas_for

NEW = [schedule for schedule in SCHEDULES if not samplers.is_earlier(schedule)]
CONFIG = dict(num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
              steps_offset=1, clip_sample=False)
USUAL = ModelLevels.usual()


def walk(name, schedule, prediction_type, x0, noise, steps=5, strength=1.0, **config):
    """Denoise with a model that always means x0, given through NoiseLevel.output. Returns the end and the calls."""
    import torch

    scheduler = samplers.make(name, schedule, {**CONFIG, **config, "prediction_type": prediction_type}, steps, "cpu")
    latents = noise * scheduler.init_noise_sigma
    if strength < 1:
        late_timesteps(scheduler, steps, strength)
        latents = scheduler.add_noise(x0, noise)
    scheduler.begin(latents, [torch.Generator().manual_seed(5)])
    calls = 0
    while scheduler.running:
        level, x = scheduler.level(calls), scheduler.latents
        answer = level.x0(level.output(x0, x), x)
        torch.testing.assert_close(answer, x0, atol=5e-3, rtol=1e-3)
        assert 0 <= float(scheduler.timesteps[calls]) <= 999
        latents = scheduler.advance((answer, answer) if scheduler.paired else answer)
        calls += 1
    return latents, calls


def noises():
    import torch

    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(1, 4, 4, 4, generator=generator) for _ in range(2))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_perfect_model_leads_every_sampler_along_every_schedule_to_its_picture(name):
    import torch

    x0, noise = noises()
    for schedule, kind in product(NEW, ("epsilon", "v_prediction")):
        end, calls = walk(name, schedule, kind, x0, noise)
        # Some end at the model's lowest level, and there is that much noise left.
        left = 0.2 if schedule == "KL Optimal" or name in ("DPM fast", "DPM adaptive", "TCD", "PLMS") else 0.12
        if name.casefold() == "ipndm_v" and schedule in ("Beta", "linear_quadratic"):
            continue  # its fourth weight misses where steps are very unequal, here as elsewhere
        torch.testing.assert_close(end, x0, atol=left, rtol=0.01, msg=f"{name}, {schedule}, {kind}")
        if not SAMPLERS[name].adaptive:
            assert calls == samplers.calls(name, 5, schedule), schedule


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_lone_step_and_a_late_start_lead_to_the_picture_too(name):
    import torch

    x0, noise = noises()
    for steps, strength in ((1, 1.0), (8, 0.5), (8, 0.1), (3, 0.99)):
        end, calls = walk(name, "Automatic", "epsilon", x0, noise, steps, strength)
        torch.testing.assert_close(end, x0, atol=0.25, rtol=0.01, msg=f"{name}, {steps}, {strength}")
        if not SAMPLERS[name].adaptive:
            assert calls == samplers.calls(name, late_steps(steps, strength)), (name, steps, strength)


@pytest.mark.parametrize("name", ["Euler", "DPM++ 2M", "DDIM", "UniPC", "TCD"])
def test_noise_alone_is_the_last_level_of_a_zero_terminal_snr(name):
    import torch

    x0, noise = noises()
    end, _ = walk(name, "Automatic", "v_prediction", x0, noise, rescale_betas_zero_snr=True,
                  timestep_spacing="trailing")
    torch.testing.assert_close(end, x0, atol=0.1, rtol=0.01)
    levels = samplers.make("Euler", "Uniform", {**CONFIG, "rescale_betas_zero_snr": True}, 4, "cpu").sigmas
    assert levels[0] == pytest.approx(4518.8, rel=1e-3)


def test_automatic_follows_what_the_checkpoint_s_own_config_names_and_no_default_of_a_class():
    import diffusers

    silent = diffusers.PNDMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    assert silent.config.timestep_spacing == "leading"
    for config, schedule in ((dict(silent.config), "Uniform"), ({**CONFIG, "timestep_spacing": "leading"}, "DDIM"),
                             ({**CONFIG, "timestep_spacing": "trailing"}, "Turbo"),
                             ({**CONFIG, "use_karras_sigmas": True}, "Karras")):
        made = samplers.make("Euler", "Automatic", config, 8, "cpu")
        assert made.sigmas == pytest.approx(sigmas_for("Euler", schedule, USUAL, 8)[:-1], abs=1e-4)
        own = samplers.make("DPM++ 2M", "Automatic", config, 8, "cpu")  # which has a schedule of its own
        assert own.sigmas == pytest.approx(sigmas_for("DPM++ 2M", "Karras", USUAL, 8)[:-1], abs=1e-4)


def test_some_names_leave_out_a_level_or_end_where_the_model_does():
    karras = sigmas_for("Euler", "Karras", USUAL, 9)
    for name in ("DPM2", "DPM2 a", "DPM++ 3M SDE", "uni_pc"):
        assert sigmas_for(name, "Karras", USUAL, 8) == [*karras[:-2], 0.0]
    assert sigmas_for("DDIM", "Automatic", USUAL, 8) == [*sigmas_for("Euler", "DDIM", USUAL, 8)[:-1], USUAL.lowest]
    assert sigmas_for("UniPC", "Automatic", USUAL, 8) == sigmas_for("Euler", "Uniform", USUAL, 9)[:-1]
    assert sigmas_for("DDIM", "Karras", USUAL, 8) == sigmas_for("Euler", "Karras", USUAL, 8)


def test_bounds_reach_the_schedule():
    levels = samplers.make("DPM++ 2M", "Karras", CONFIG, 8, "cpu", Bounds(0.1, 9.0)).sigmas
    assert [levels[0], levels[-1]] == pytest.approx([9.0, 0.1])


def test_sdxl_has_tuned_schedules_of_its_own():
    plain, xl = (samplers.make("Euler", "Align Your Steps", CONFIG, 10, "cpu", is_xl=is_xl).sigmas
                 for is_xl in (False, True))
    assert plain != xl


@pytest.mark.parametrize("name", ["Euler a", "DPM++ SDE", "er_sde"])
def test_each_picture_draws_its_own_noise_whatever_stands_beside_it(name):
    import torch

    x0, noise = torch.zeros(2, 4, 4, 4), torch.ones(2, 4, 4, 4)

    def drawn(seeds):
        scheduler = samplers.make(name, "Automatic", CONFIG, 4, "cpu")
        rows = len(seeds)
        scheduler.begin(noise[:rows] * scheduler.init_noise_sigma, [torch.Generator().manual_seed(seed)
                                                                    for seed in seeds])
        seen = []
        while scheduler.running:
            seen.append(scheduler.advance(x0[:rows]))
        return seen[1]

    both = drawn([5, 6])
    assert not torch.equal(both[0], both[1])
    assert torch.equal(drawn([6])[0], both[1])


def test_what_a_person_sets_reaches_the_solvers_that_know_it():
    import torch

    x0, noise = noises()

    def drawn(name, **options):
        scheduler = samplers.make(name, "Karras", CONFIG, 4, "cpu")
        scheduler.begin(noise * scheduler.init_noise_sigma, [torch.Generator().manual_seed(5)], options)
        first = scheduler.level(0).sigma
        return scheduler.advance(x0), first

    for name, options, changes in (("Euler a", {"eta": 0.5}, True), ("Euler", {"eta": 0.5}, False),
                                   ("Euler", {"s_churn": 9.0}, True), ("DPM++ 2M", {"s_churn": 9.0}, False),
                                   ("Euler a", {"s_noise": 1.05}, True)):
        assert torch.equal(drawn(name)[0], drawn(name, **options)[0]) is not changes, (name, options)
    assert drawn("Euler", s_churn=9.0)[1] > drawn("Euler")[1]  # the model is asked at the raised level


def test_latents_are_kept_in_float32_whatever_the_model_has():
    import torch

    scheduler = samplers.make("DPM++ 2M", "Karras", CONFIG, 4, "cpu")
    scheduler.begin(torch.ones(1, 4, 2, 2, dtype=torch.float16), [torch.Generator()])
    assert scheduler.latents.dtype == torch.float32
    assert scheduler.advance(torch.zeros(1, 4, 2, 2)).dtype == torch.float32


def test_nothing_is_read_back_from_the_device_while_walking():
    """Tensors on the meta device have no values, so that reading one back raises."""
    import torch

    for name, row in SAMPLERS.items():
        if row.stochastic or row.adaptive:  # their noise comes from the CPU
            continue
        scheduler = samplers.make(name, "Automatic", CONFIG, 6, "meta")
        scheduler.begin(torch.zeros(1, 4, 2, 2, device="meta"), [torch.Generator()])
        calls = 0
        while scheduler.running:
            level = scheduler.level(calls)
            x0 = level.x0(scheduler.scale_model_input(scheduler.latents), scheduler.latents)
            scheduler.advance((x0, x0) if scheduler.paired else x0)
            calls += 1


def test_each_run_gets_a_scheduler_of_its_own():
    first, second = (samplers.make("DPM++ 2M", "Karras", CONFIG, steps, "cpu") for steps in (5, 9))
    assert len(first.timesteps) == 5 and len(second.timesteps) == 9


def test_unknown_names_are_refused():
    with pytest.raises(RequestError, match="'Euler b' is unknown. Known are Euler a") as caught:
        samplers.check("Euler b")
    assert caught.value.field == "sampler"
    with pytest.raises(RequestError, match="Schedule: 'Carras' is unknown") as caught:
        samplers.check("Euler", "Carras")
    assert caught.value.field == "schedule"


def test_what_the_earlier_version_had_is_there_beside_the_new_and_nothing_more():
    assert "Karras (0.1.0)" in samplers.schedules_for("Euler")
    assert "Karras (0.1.0)" not in samplers.schedules_for("DDIM") and "Karras" in samplers.schedules_for("DDIM")
    assert not any(map(samplers.is_earlier, samplers.schedules_for("res_multistep")))
    with pytest.raises(RequestError, match="'Karras' does not go with the sampler DDIM"):
        samplers.check("DDIM", "Karras (0.1.0)")
    for name in ("Euler", "Heun", "PLMS"):
        made = samplers.make(name, "Automatic (0.1.0)", CONFIG, 6, "cpu")
        assert len(made.timesteps) == samplers.calls(name, 6, "Automatic (0.1.0)")
        late_timesteps(made, 6, 0.5)
        assert len(made.timesteps) == samplers.calls(name, 3, "Automatic (0.1.0)")


def test_each_row_names_a_solver_and_options_that_it_has_and_says_what_it_is_good_for():
    for name, row in SAMPLERS.items():
        known = inspect.signature(samplers.solver_of(row)).parameters
        assert {*row.options, *row.model_options} <= set(known), name
        assert row.stochastic == ({"eta", "s_noise"} & set(known) != set() and name not in (
            "DDIM", "DDIM CFG++", "res_multistep", "res_multistep_cfg_pp", "Euler", "Heun", "HeunPP2", "DPM2")), name
        assert row.help.endswith(".") and len(row.help) < 90, name
    assert set(NEW) == {"Automatic", *samplers.sigma_schedules.SCHEDULES}


def test_the_table_is_read_without_torch():
    import subprocess
    import sys

    code = ("import sys; from pipelines.generation import samplers; samplers.calls('Restart', 20); "
            "sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
