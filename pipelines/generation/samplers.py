"""Samplers and schedules by the names people know, each mapped to a fresh walk along noise levels.

A *sampler* is the solver (Euler a), a *schedule* the spacing of its noise levels (Karras), a *scheduler* the object
that does both for one run (sigma_walk.py). The names stand in sampler_table.py. Importing this file does not import
torch; making a scheduler does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..diffusion import sigma_schedules
from ..diffusion.sigma_schedules import UNBOUND, Bounds, ModelLevels
from ..diffusion.solvers.walk import Solver, asked_levels
from ..errors import RequestError, quoted
from ..settings import EARLIER_MARK
from . import library_schedulers
from .library_schedulers import LibraryWalk
from .sampler_table import SAMPLERS, SCHEDULES, Sampler

if TYPE_CHECKING:
    import torch

    from ..diffusion.noise_level import NoiseLevel
    from .sigma_walk import SigmaWalk

__all__ = ["SAMPLERS", "SCHEDULES", "Sampler", "calls", "check", "is_earlier", "late_steps", "late_timesteps", "make",
           "noise_level", "schedules_for", "sigmas_for"]

ADAPTIVE_CALLS = 45  # of a usual run of DPM adaptive; it takes as many as it needs
TCD_GAMMA = 0.3  # share of fresh noise (Zheng et al. 2024, arXiv:2402.19159, sec. 4)
SA_NOISY = 0.2, 0.8  # shares of the model's time between which sa_solver draws noise
_FLAGS = {"use_karras_sigmas": "Karras", "use_exponential_sigmas": "Exponential", "use_beta_sigmas": "Beta"}


def schedules_for(sampler: str) -> tuple[str, ...]:
    """The schedules a sampler can follow: every one, and of the earlier version's those that it had."""
    check(sampler)
    had = library_schedulers.schedules_for(sampler)
    return tuple(name for name in SCHEDULES if not is_earlier(name) or name.removesuffix(EARLIER_MARK) in had)


def is_earlier(schedule: str | None) -> bool:
    """Whether sampler and schedule mean what they meant in the earlier version."""
    return bool(schedule) and schedule.endswith(EARLIER_MARK)


def check(sampler: str, schedule: str = "Automatic") -> str:
    """Return the sampler's name, or raise RequestError naming what is unknown or does not go together."""
    for kind, name, table in (("Sampler", sampler, SAMPLERS), ("Schedule", schedule, SCHEDULES)):
        if name not in table:
            raise RequestError(f"{kind}: {quoted(name)} is unknown. Known are {', '.join(table)}.", kind.lower())
    if is_earlier(schedule):
        return library_schedulers.check(sampler, schedule.removesuffix(EARLIER_MARK))
    return sampler


def solver_of(row: Sampler) -> Solver:
    """The function that a row names."""
    module, _, function = row.solver.partition(".")
    return getattr(import_module(f"pipelines.diffusion.solvers.{module}"), function)


def sigmas_for(sampler: str, schedule: str, levels: ModelLevels, steps: int, named: str | None = None,
               bounds: Bounds = UNBOUND) -> list[float]:
    """The noise levels that a sampler walks along.

    named: the schedule that the checkpoint's own config asks for, or None.
    """
    row = SAMPLERS[check(sampler, schedule)]
    automatic = schedule == "Automatic" or row.fixed_levels
    followed = schedule
    if automatic:
        followed = row.automatic or (None if row.fixed_levels or row.lowest else named) or "Uniform"
    if steps == 1 and followed == "DDIM":  # its only step would begin almost without noise
        followed = "Uniform"
    function = {**sigma_schedules.SCHEDULES, **sigma_schedules.OWN}[followed]
    extra = row.lowest or 0 if automatic else 0
    sigmas = function(levels, steps + extra + row.discards, bounds)
    if row.discards:
        sigmas = [*sigmas[:-2], sigmas[-1]]
    if automatic and row.lowest is not None:  # ends where the model does, not at 0
        sigmas = [*sigmas[:-1 - extra], levels.lowest]
    return sigmas


def _named_schedule(config: Mapping[str, Any]) -> str | None:
    """The schedule that a checkpoint's own config names; a default of its scheduler's class is no wish of its own."""
    defaults = config.get("_use_default_values", ())
    own = {key: value for key, value in config.items() if key not in defaults}
    for flag, name in _FLAGS.items():
        if own.get(flag):
            return name
    return sigma_schedules.SPACINGS.get(own.get("timestep_spacing"))


def _model_options(row: Sampler, levels: ModelLevels) -> dict[str, Any]:
    """The arguments of a row's solver that depend on the model's levels."""
    last = len(levels.sigmas) - 1
    low, high = (levels.sigma(share * last) for share in SA_NOISY)
    known = {"tau": lambda sigma: float(low <= sigma <= high),
             "below": lambda sigma: levels.sigmas[int((1 - TCD_GAMMA) * levels.timestep(sigma) + 1e-6)]}
    return {name: known[name] for name in row.model_options}


def counted(sampler: str, steps: int) -> int:
    """Steps as AUTOMATIC1111 counts them for prompts that change with them: twice for some samplers."""
    return steps * (1 + SAMPLERS[sampler].twice)


@cache
def calls(sampler: str, steps: int, schedule: str = "Automatic") -> int:
    """How often a run of so many steps calls the model; for DPM adaptive, about how often."""
    row = SAMPLERS[sampler]
    if is_earlier(schedule):
        return library_schedulers.calls(sampler, steps)
    if row.adaptive:
        return ADAPTIVE_CALLS
    levels = ModelLevels.usual()
    sigmas = sigmas_for(sampler, schedule, levels, steps)
    return len(asked_levels(solver_of(row), sigmas, row.paired, **row.options, **_model_options(row, levels)))


def make(sampler: str, schedule: str, config: Mapping[str, Any], steps: int, device: Any,
         bounds: Bounds = UNBOUND, is_xl: bool = False) -> SigmaWalk | LibraryWalk:
    """Build a fresh walk for a checkpoint, with its timesteps set.

    config: of the checkpoint's scheduler (betas, prediction type, spacing). is_xl: takes SDXL's tuned schedules.
    """
    from .sigma_walk import SigmaWalk, model_levels

    if is_earlier(schedule):
        return LibraryWalk(sampler, schedule.removesuffix(EARLIER_MARK), dict(config), steps, device)
    row, levels = SAMPLERS[check(sampler, schedule)], model_levels(config, is_xl)
    sigmas = sigmas_for(sampler, schedule, levels, steps, _named_schedule(config), bounds)
    unit = row.unit and schedule == "Automatic"
    options = {**row.options, **_model_options(row, levels)}
    return SigmaWalk(row, solver_of(row), options, sigmas, levels, config, device, unit)


def late_steps(steps: int, strength: float) -> int:
    """How many steps a strength leaves to run."""
    return min(max(1, int(steps * strength)), steps)


def late_timesteps(scheduler: SigmaWalk | LibraryWalk, steps: int, strength: float) -> tuple[torch.Tensor, int]:
    """The timesteps of the last steps of a schedule, and how many model calls come before them."""
    begin = (steps - late_steps(steps, strength)) * scheduler.order
    scheduler.set_begin_index(begin)
    return scheduler.timesteps, begin


def noise_level(sampler: str, scheduler: SigmaWalk | LibraryWalk, t: torch.Tensor, index: int) -> NoiseLevel:
    """The noise level of the latents that are about to be denoised. index: of the model call, in a whole run."""
    return scheduler.level(index - scheduler.begin_index)
