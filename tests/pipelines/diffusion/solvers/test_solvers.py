"""Every solver walks as its name does elsewhere, converges to the exact flow at its order, and waits for no device."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.pipelines.diffusion.test_sigma_schedules import model_levels

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())["solvers"]
RUNS = [(name, run) for name, runs in GOLDEN.items() for run in runs]
# module.function and options of the names whose solvers are called otherwise, or have options.
OPTIONS = {"k-diffusion dpmpp_2m_sde, heun": {"heun": True}, "comfy res_multistep_ancestral": {"eta": 1.0},
           "comfy ipndm": {"ends_at_x0": True}, "comfy ipndm_v": {"ends_at_x0": True}}
OTHERWISE = {"res_multistep_ancestral": "res_multistep", "ddpm": "euler_ancestral"}
MODULES = ("single_step", "dpmpp", "adams", "dpm", "exponential", "few_step", "guided")
PAIRED = ("euler_cfg_pp", "euler_ancestral_cfg_pp", "ddim_cfg_pp", "dpmpp_2s_ancestral_cfg_pp", "dpmpp_2m_cfg_pp",
          "res_multistep_cfg_pp", "gradient_estimation_cfg_pp")
SINGLE = ("euler", "euler_ancestral", "ddim", "heun", "heunpp2", "dpm_2", "dpm_2_ancestral", "restart",
          "dpmpp_2s_ancestral", "dpmpp_sde", "dpmpp_2m", "dpmpp_2m_sde", "dpmpp_3m_sde", "lms", "ipndm", "ipndm_v",
          "deis", "plms", "gradient_estimation", "dpm_fast", "res_multistep", "unipc", "seeds_2", "seeds_3",
          "sa_solver", "er_sde", "lcm", "tcd")


def solver(name):
    from importlib import import_module

    modules = [import_module(f"pipelines.diffusion.solvers.{module}") for module in MODULES]
    return next(getattr(module, name) for module in modules if hasattr(module, name))


def golden_run(name, run):
    """The solver, its options, and the levels of a golden result."""
    from pipelines.diffusion.sigma_schedules import karras, uniform

    levels = model_levels()
    key, _, variant = run.partition(", ")
    options = dict(OPTIONS.get(f"{name}, {variant}" if variant else name, {}))
    called = name.split()[1]
    if called == "sa_solver":  # noise between these shares of the steps' time
        low, high = levels.sigma(0.2 * 999), levels.sigma(0.8 * 999)
        options["tau"] = lambda sigma: float(low <= sigma <= high)
    steps = int(key.replace("n=", "").split()[-1]) if key != "defaults" else 12
    sigmas = (uniform if key.startswith("uniform") else karras)(levels, steps)
    return solver(OTHERWISE.get(called, called)), options, sigmas


@pytest.mark.parametrize(("name", "run"), RUNS)
def test_a_solver_ends_where_its_name_ends_elsewhere(name, run):
    from pipelines.diffusion.solvers.walk import solve
    from tests.pipelines.diffusion.solvers import toy

    function, options, sigmas = golden_run(name, run)
    calls = []

    def denoised(x, sigma):
        calls.append(sigma)
        return toy.denoised(x, sigma)

    wanted = GOLDEN[name][run]
    end = solve(function, denoised, toy.UNIT * sigmas[0], sigmas, toy.Noises(), **options).flatten()
    near = 1e-4 * wanted["norm"]
    assert float(end.norm()) == pytest.approx(wanted["norm"], abs=near)
    assert end[:8].tolist() == pytest.approx(wanted["first"], abs=near / 8)
    assert len(calls) == wanted["calls"]
    if function.__name__ != "dpm_adaptive":
        from pipelines.diffusion.solvers.walk import asked_levels

        assert asked_levels(function, sigmas, **options) == calls


# ------------------------------------------------------------------------------------------------ an exact flow
MEAN, STD = 0.7, 0.5  # of a Gaussian, whose flow is known


def gaussian(x, sigma):
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


def exact(x, sigma, after):
    return MEAN + (x - MEAN) * math.sqrt((STD**2 + after**2) / (STD**2 + sigma**2))


def error(name, steps, **options):
    """How far a walk from sigma 10 to 0.1 ends from the exact flow, in float64."""
    import torch

    from pipelines.diffusion.solvers.walk import solve

    sigmas = [10 * (0.1 / 10) ** (i / steps) for i in range(steps + 1)]
    x = torch.tensor([[11.0]], dtype=torch.float64)
    end = solve(solver(name), gaussian, x, sigmas, lambda *_: torch.zeros_like(x), **options)
    if name in ("ddim", "plms"):
        end = end * math.sqrt(1 + sigmas[-1] ** 2)
    return abs(float(end) - exact(11.0, sigmas[0], sigmas[-1]))


# Multistep solvers begin, and some end, with a step of first order, whose error is of second order in all.
ORDERS = [("euler", 1, {}), ("euler_ancestral", 1, {"eta": 0.0}), ("ddim", 1, {}), ("heun", 2, {}), ("dpm_2", 2, {}),
          ("dpm_2_ancestral", 2, {"eta": 0.0}), ("dpmpp_2s_ancestral", 2, {"eta": 0.0}), ("dpmpp_2m", 2, {}),
          ("dpmpp_sde", 2, {"eta": 0.0}), ("dpmpp_2m_sde", 2, {"eta": 0.0}),
          ("dpmpp_2m_sde", 2, {"eta": 0.0, "heun": True}),
          ("dpmpp_3m_sde", 2, {"eta": 0.0}), ("lms", 3, {}), ("deis", 3, {}), ("res_multistep", 2, {}),
          ("unipc", 2, {}),
          ("unipc", 2, {"variant": "bh2"}), ("seeds_2", 2, {"eta": 0.0}), ("seeds_3", 3, {"eta": 0.0}),
          ("sa_solver", 2, {"tau": lambda sigma: 0.0}), ("dpm_fast", 2, {}), ("restart", 2, {})]


@pytest.mark.parametrize(("name", "order", "options"), ORDERS)
def test_twice_the_steps_bring_a_solver_nearer_by_its_order(name, order, options):
    coarse, fine = error(name, 96, **options), error(name, 192, **options)
    assert fine < 1e-10 or math.log2(coarse / fine) > order - 0.3


@pytest.mark.parametrize("name", ["ipndm", "ipndm_v", "plms", "heunpp2", "gradient_estimation", "tcd"])
def test_those_that_bend_the_weights_come_nearer_still(name):
    options = {"below": lambda sigma: sigma} if name == "tcd" else {}
    assert error(name, 192, **options) < 0.75 * error(name, 48, **options) < 0.05


@pytest.mark.parametrize("name", ["euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_sde",
                                  "dpmpp_2m_sde", "dpmpp_3m_sde", "seeds_2", "seeds_3", "sa_solver", "er_sde", "tcd",
                                  "restart"])
def test_the_noise_that_goes_in_leaves_the_data_s_own_spread(name):
    import torch

    from pipelines.diffusion.sigma_schedules import karras
    from pipelines.diffusion.solvers.walk import solve

    generator = torch.Generator().manual_seed(0)
    shape, sigmas = (1, 4, 64, 64), karras(model_levels(), 120)
    x = torch.randn(shape, generator=generator) * sigmas[0]
    options = {"below": lambda sigma: 0.98 * sigma} if name == "tcd" else {}
    end = solve(solver(name), gaussian, x, sigmas, lambda *_: torch.randn(shape, generator=generator), **options)
    assert float(end.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(end.std()) == pytest.approx(STD, rel=0.06)


# ------------------------------------------------------------------------------------------------------ own oracles
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("steps", [3, 7])
def test_unipc_is_the_library_s(variant, steps):
    import diffusers
    import torch

    from pipelines.diffusion.solvers.walk import solve
    from tests.pipelines.diffusion.solvers import toy

    scheduler = diffusers.UniPCMultistepScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, solver_order=3, solver_type=variant,
        use_karras_sigmas=True, final_sigmas_type="sigma_min", prediction_type="sample")
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas.double().tolist()
    scale = math.sqrt(1 + sigmas[0] ** 2)
    theirs = toy.UNIT * sigmas[0] / scale
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        x0 = toy.denoised(theirs * math.sqrt(1 + sigma**2), sigma)
        theirs = scheduler.step(x0, t, theirs).prev_sample
    ours = solve(solver("unipc"), toy.denoised, toy.UNIT * sigmas[0], sigmas, toy.Noises(), variant=variant)
    torch.testing.assert_close(ours / math.sqrt(1 + sigmas[-1] ** 2), theirs, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ddim_is_the_library_s(eta):
    import diffusers
    import torch

    from pipelines.diffusion.sigma_schedules import ddim_uniform
    from pipelines.diffusion.solvers.walk import solve
    from tests.pipelines.diffusion.solvers import toy

    scheduler = diffusers.DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
                                        steps_offset=1, clip_sample=False, set_alpha_to_one=False,
                                        prediction_type="sample")
    scheduler.set_timesteps(10)
    levels = model_levels()
    sigmas = [*ddim_uniform(levels, 10)[:-1], levels.lowest]
    theirs, noise = toy.UNIT, toy.Noises()
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        x0 = toy.denoised(theirs * math.sqrt(1 + sigma**2), sigma)
        fresh = noise(sigma, 0) if eta else None
        theirs = scheduler.step(x0, t, theirs, eta=eta, variance_noise=fresh).prev_sample
    start = toy.UNIT * math.sqrt(1 + sigmas[0] ** 2)
    ours = solve(solver("ddim"), toy.denoised, start, sigmas, toy.Noises(), eta=eta)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_tcd_is_the_library_s():
    import diffusers
    import torch

    from pipelines.diffusion.solvers.walk import solve
    from tests.pipelines.diffusion.solvers import toy

    scheduler = diffusers.TCDScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012,
                                       prediction_type="sample")
    scheduler.set_timesteps(4)
    levels, gamma = model_levels(), 0.3
    sigmas = [levels.sigmas[int(t)] for t in scheduler.timesteps] + [levels.lowest]
    theirs, generator = toy.UNIT, torch.Generator().manual_seed(9)
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        x0 = toy.denoised(theirs * math.sqrt(1 + sigma**2), sigma)
        theirs = scheduler.step(x0, t, theirs, eta=gamma, generator=generator).prev_sample
    generator = torch.Generator().manual_seed(9)
    ours = solve(solver("tcd"), toy.denoised, toy.UNIT * math.sqrt(1 + sigmas[0] ** 2), sigmas,
                 lambda *_: torch.randn(toy.SHAPE, generator=generator),
                 below=lambda sigma: levels.sigmas[math.floor((1 - gamma) * levels.timestep(sigma) + 1e-6)])
    torch.testing.assert_close(ours / math.sqrt(1 + sigmas[-1] ** 2), theirs, atol=1e-3, rtol=1e-3)


def test_plms_begins_with_heun_s_slope_and_goes_on_with_the_weights_of_equal_steps():
    from pipelines.diffusion.solvers.walk import solve

    sigmas = [8.0, 5.0, 3.0, 1.5, 0.6, 0.2]
    d, x = [], 9.0
    for i, (sigma, after) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
        d.append((x - gaussian(x, sigma)) / sigma)
        if i == 0:
            ahead = x + d[0] * (after - sigma)
            mean = (d[0] + (ahead - gaussian(ahead, after)) / after) / 2
        elif i == 1:
            mean = (3 * d[1] - d[0]) / 2
        elif i == 2:
            mean = (23 * d[2] - 16 * d[1] + 5 * d[0]) / 12
        else:
            mean = (55 * d[i] - 59 * d[i - 1] + 37 * d[i - 2] - 9 * d[i - 3]) / 24
        x = x + mean * (after - sigma)
    assert solve(solver("plms"), gaussian, 9.0, sigmas, None) == pytest.approx(x / math.sqrt(1 + 0.2**2))


def test_cfg_pp_walks_from_the_guided_x0_along_the_unguided_noise():
    from pipelines.diffusion.solvers.walk import solve

    def both(x, sigma):
        return gaussian(x, sigma) + 0.1 * x, gaussian(x, sigma)

    x = 9.0
    for sigma, after in ((8.0, 3.0), (3.0, 1.0), (1.0, 0.0)):
        x0, uncond = both(x, sigma)
        x = x0 + after * (x - uncond) / sigma
    for name in ("euler_cfg_pp", "ddim_cfg_pp"):
        assert solve(solver(name), both, 9.0, [8.0, 3.0, 1.0, 0.0], None) == pytest.approx(x)


@pytest.mark.parametrize("name", PAIRED)
def test_without_guidance_cfg_pp_is_the_solver_of_its_name(name):
    import torch

    from pipelines.diffusion.sigma_schedules import karras
    from pipelines.diffusion.solvers.walk import solve
    from tests.pipelines.diffusion.solvers import toy

    sigmas = karras(model_levels(), 6)

    def both(x, sigma):
        return (toy.denoised(x, sigma),) * 2

    with_pair = solve(solver(name), both, toy.UNIT * sigmas[0], sigmas, toy.Noises())
    plain = solve(solver(name.removesuffix("_cfg_pp")), toy.denoised, toy.UNIT * sigmas[0], sigmas, toy.Noises())
    torch.testing.assert_close(with_pair, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("steps", "again", "times"), [(19, 0, 0), (20, 9, 1), (35, 9, 1), (36, 9, 2), (50, 12, 2)])
def test_restart_walks_a_part_again_in_as_many_steps_as_asked(steps, again, times):
    from pipelines.diffusion.sigma_schedules import karras
    from pipelines.diffusion.solvers.single_step import restart_steps

    walked = restart_steps(karras(model_levels(), steps))
    up = [(after, sigma) for (_, after), (sigma, _) in zip(walked, walked[1:], strict=False) if sigma > after]
    assert len(walked) == steps and len(up) == times
    assert all(low == pytest.approx(0.1, abs=0.06) and high == pytest.approx(2.0, abs=0.4) for low, high in up)
    assert walked[-1][1] == 0


@pytest.mark.parametrize("name", [*SINGLE, *PAIRED])
def test_no_step_waits_for_a_device(name):
    """Tensors on the meta device have no values, so that reading one back raises."""
    import torch

    from pipelines.diffusion.sigma_schedules import karras
    from pipelines.diffusion.solvers.walk import solve

    x, sigmas = torch.zeros(1, 4, 2, 2, device="meta"), karras(model_levels(), 22)

    def denoised(x, sigma):
        assert isinstance(sigma, float)
        return (x, x) if name in PAIRED else x

    end = solve(solver(name), denoised, x, sigmas, lambda *_: torch.zeros_like(x))
    assert end.shape == x.shape and end.device.type == "meta"


def test_lcm_puts_the_next_level_s_noise_on_x0():
    from pipelines.diffusion.solvers.walk import solve

    x = gaussian(9.0, 8.0) + 3.0 * 0.5
    assert solve(solver("lcm"), gaussian, 9.0, [8.0, 3.0, 0.0], lambda *_: 0.5) == pytest.approx(gaussian(x, 3.0))


@pytest.mark.filterwarnings("ignore:Should have t")  # of the library's class, which does not round
def test_one_brownian_path_serves_any_steps_and_is_the_library_s():
    import torch
    from diffusers.schedulers.scheduling_dpmsolver_sde import BrownianTreeNoiseSampler

    from pipelines.diffusion.solvers.brownian import BrownianNoise

    like = torch.zeros(2, 4, 8, 8)
    noise = BrownianNoise(like, 0.03, 14.6, (5, 6))
    theirs = BrownianTreeNoiseSampler(like, 0.03, 14.6, seed=[5, 6])
    for sigma, after in ((14.6, 6.0), (6.0, 2.0), (6.0, 0.03)):
        torch.testing.assert_close(noise(sigma, after), theirs(sigma, after), atol=1e-3, rtol=1e-3)
    whole = noise(14.6, 2.0) * math.sqrt(12.6)
    parts = noise(14.6, 6.0) * math.sqrt(8.6) + noise(6.0, 2.0) * 2
    torch.testing.assert_close(whole, parts, atol=2e-3, rtol=1e-3)
    alone = BrownianNoise(like[:1], 0.03, 14.6, (6,))
    assert torch.equal(alone(14.6, 6.0)[0], noise(14.6, 6.0)[1])
