"""Every schedule walks the levels that its name walks elsewhere."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

GOLDEN = json.loads((Path(__file__).parent / "solvers" / "golden.json").read_text())["schedules"]
# Names whose numbers are those of another, which stands for both.
SAME = {"Automatic": "Uniform", "simple": "Simple", "normal": "Normal", "sgm_uniform": "SGM Uniform",
        "karras": "Karras", "exponential": "Exponential", "ddim_uniform": "DDIM"}
CASES = [(source, name, int(steps)) for source, names in GOLDEN.items() for name, runs in names.items()
         for steps in runs]


def model_levels(is_xl=False, **kwargs):
    import torch

    from pipelines.diffusion.sigma_schedules import ModelLevels

    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return ModelLevels.of_abar(torch.cumprod(1 - betas, 0), is_xl)


@pytest.mark.parametrize(("source", "name", "steps"), CASES)
def test_levels_are_those_of_the_name(source, name, steps):
    from pipelines.diffusion.sigma_schedules import SCHEDULES

    levels = SCHEDULES[SAME.get(name, name)](model_levels(source.endswith("sdxl")), steps)
    assert levels == pytest.approx(GOLDEN[source][name][str(steps)], abs=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_every_schedule_falls_in_as_many_steps_as_asked(steps):
    from pipelines.diffusion.sigma_schedules import SCHEDULES

    for name, schedule in SCHEDULES.items():
        levels = schedule(model_levels(), steps)
        ends = 0.0 if name != "KL Optimal" else pytest.approx(model_levels().lowest)
        extra = name == "DDIM" and 1000 // steps * steps < 1000  # 1000 // 7 = 142 leaves room for an eighth
        assert len(levels) == steps + 1 + extra and levels[-1] == ends, name
        assert all(after < sigma for sigma, after in pairwise(levels)), name


def test_turbo_is_the_library_s_trailing_spacing():
    import diffusers

    from pipelines.diffusion.sigma_schedules import turbo

    scheduler = diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
                                                 timestep_spacing="trailing")
    for steps in (1, 3, 4, 20):
        scheduler.set_timesteps(steps)
        assert turbo(model_levels(), steps) == pytest.approx(scheduler.sigmas.tolist(), abs=1e-4)


def test_bounds_and_rho_bend_what_knows_them():
    from pipelines.diffusion.sigma_schedules import SCHEDULES, Bounds

    for name in ("Karras", "Exponential", "Polyexponential", "KL Optimal", "kl_optimal", "Beta"):
        levels = SCHEDULES[name](model_levels(), 8, Bounds(0.1, 9.0))
        assert [levels[0], [level for level in levels if level > 0][-1]] == pytest.approx([9.0, 0.1]), name
    straight, bent = (SCHEDULES["Karras"](model_levels(), 3, Bounds(1.0, 9.0, rho)) for rho in (1.0, 2.0))
    assert straight[1] == pytest.approx(5) and bent[1] == pytest.approx(4)


def test_timesteps_lie_between_the_model_s_own_and_are_not_rounded():
    import numpy as np

    levels = model_levels()
    assert levels.timestep(levels.sigmas[500]) == pytest.approx(500)
    half = float(np.sqrt(levels.sigmas[500] * levels.sigmas[501]))
    assert levels.timestep(half) == pytest.approx(500.5)
    assert levels.sigma(500.5) == pytest.approx(half)
    assert (levels.timestep(99.0), levels.timestep(0.0)) == (999, 0)


def test_a_last_timestep_of_noise_alone_has_a_finite_level():
    import torch

    from pipelines.diffusion.sigma_schedules import ModelLevels

    assert ModelLevels.of_abar(torch.tensor([0.9, 0.5, 0.0])).highest == pytest.approx(4518.76, rel=1e-5)


def test_a_list_of_levels_is_a_schedule():
    from pipelines.diffusion.sigma_schedules import given

    assert given([9, 2, 0.5, 0])(model_levels(), 20) == [9, 2, 0.5, 0]
