"""Samplers and schedules by the names people know, each mapped to a fresh diffusers scheduler.

A *sampler* is the solver (Euler a), a *schedule* the spacing of its noise levels (Karras), a *scheduler* the
diffusers object that does both. Names follow AUTOMATIC1111. To add one, add a row. Importing this file does
not import torch; making a scheduler does.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import RequestError, quoted

if TYPE_CHECKING:
    import torch
    from diffusers import SchedulerMixin

    from ..diffusion.noise_level import NoiseLevel


@dataclass(frozen=True)
class Sampler:
    """One solver.

    scheduler: name of the diffusers class. options: config entries that make it this solver.
    automatic: the schedule that "Automatic" stands for; None leaves the spacing of the checkpoint.
    flags: whether the class knows use_karras_sigmas and its kin. spacings: whether it knows timestep_spacing.
    sigma_space: True where latents are x0 + sigma * eps (k-diffusion's convention), False where they keep unit
    variance (sqrt(abar) * x0 + sqrt(1 - abar) * eps).
    order: model calls of each step but the last, which takes one.
    """

    scheduler: str
    options: dict[str, Any] = field(default_factory=dict)
    automatic: str | None = None
    flags: bool = True
    spacings: bool = True
    sigma_space: bool = False
    order: int = 1


_UNCLIPPED = {"clip_sample": False}  # the default clips to -1..1, where pixels lie and latents do not
_SDE = {"algorithm_type": "sde-dpmsolver++"}

SAMPLERS: dict[str, Sampler] = {
    "Euler a": Sampler("EulerAncestralDiscreteScheduler", flags=False, sigma_space=True),
    "Euler": Sampler("EulerDiscreteScheduler", sigma_space=True),
    "DPM++ 2M": Sampler("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}, "Karras"),
    "DPM++ 2M SDE": Sampler("DPMSolverMultistepScheduler", _SDE, "Exponential"),
    "DPM++ 2M SDE Heun": Sampler("DPMSolverMultistepScheduler", {**_SDE, "solver_type": "heun"}, "Exponential"),
    "DPM++ 3M SDE": Sampler("DPMSolverMultistepScheduler", {**_SDE, "solver_order": 3}, "Exponential"),
    "DPM++ SDE": Sampler("DPMSolverSinglestepScheduler", {**_SDE, "lower_order_final": True}, "Karras", spacings=False),
    "UniPC": Sampler("UniPCMultistepScheduler"),
    "Heun": Sampler("HeunDiscreteScheduler", sigma_space=True, order=2),
    "DPM2": Sampler("KDPM2DiscreteScheduler", automatic="Karras", sigma_space=True, order=2),
    "DPM2 a": Sampler("KDPM2AncestralDiscreteScheduler", automatic="Karras", sigma_space=True, order=2),
    "LMS": Sampler("LMSDiscreteScheduler", sigma_space=True),
    "DEIS": Sampler("DEISMultistepScheduler"),
    "DDIM": Sampler("DDIMScheduler", _UNCLIPPED, flags=False),
    "PLMS": Sampler("PNDMScheduler", {"skip_prk_steps": True}, flags=False),
    "DDPM": Sampler("DDPMScheduler", _UNCLIPPED, flags=False),
    "LCM": Sampler("LCMScheduler", _UNCLIPPED, flags=False, spacings=False),
}

_PLAIN = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}

SCHEDULES: dict[str, dict[str, Any]] = {
    "Automatic": {},
    "Karras": {**_PLAIN, "use_karras_sigmas": True},
    "Exponential": {**_PLAIN, "use_exponential_sigmas": True},
    "Beta": {**_PLAIN, "use_beta_sigmas": True},
    "Uniform": {**_PLAIN, "timestep_spacing": "linspace"},
    "SGM Uniform": {**_PLAIN, "timestep_spacing": "trailing"},
    "DDIM": {**_PLAIN, "timestep_spacing": "leading"},
}
# Their constructors place every training timestep, one by one: half a second for steps that nobody takes.
_PLACE_ALL = ("HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler",
              "LMSDiscreteScheduler")
_BY_FLAG = ("Karras", "Exponential", "Beta")
# The solvers without sigmas step back by a fixed 1000 // steps, so evenly placed timesteps would miss their end.
_NEEDS_SIGMAS = (*_BY_FLAG, "Uniform")


def schedules_for(sampler: str) -> tuple[str, ...]:
    """The schedules a sampler can follow. Solvers without sigmas (DDIM, PLMS, DDPM, LCM) know spacings only."""
    row = SAMPLERS[check(sampler)]
    return tuple(name for name in SCHEDULES if _fits(row, name))


def _fits(row: Sampler, schedule: str) -> bool:
    if schedule in _NEEDS_SIGMAS:
        return row.flags or row.sigma_space
    return row.spacings or "timestep_spacing" not in SCHEDULES[schedule]


def check(sampler: str, schedule: str = "Automatic") -> str:
    """Return the sampler's name, or raise RequestError naming what is unknown or does not go together."""
    for kind, name, table in (("Sampler", sampler, SAMPLERS), ("Schedule", schedule, SCHEDULES)):
        if name not in table:
            raise RequestError(f"{kind}: {quoted(name)} is unknown. Known are {', '.join(table)}.", kind.lower())
    if not _fits(SAMPLERS[sampler], schedule):
        raise RequestError(f"Schedule: {schedule!r} does not go with the sampler {sampler}. "
                           f"Possible are {', '.join(schedules_for(sampler))}.", "schedule")
    return sampler


def calls(sampler: str, steps: int) -> int:
    """How often a run of so many steps calls the model."""
    row = SAMPLERS[sampler]
    if row.scheduler == "PNDMScheduler":  # the second step's call is made twice
        return steps + (steps > 1)
    return row.order * (steps - 1) + 1


def make(sampler: str, schedule: str, config: dict[str, Any], steps: int, device: torch.device) -> SchedulerMixin:
    """Build a fresh scheduler from a checkpoint's scheduler config, with its timesteps set.

    config: the checkpoint's own (betas, prediction type, offsets); the table's entries go over it.
    """
    import diffusers

    check(sampler, schedule)
    row = SAMPLERS[sampler]
    followed = row.automatic if schedule == "Automatic" else schedule
    if steps == 1 and row.spacings:  # the others may put a lone step at the end, or end where it began: noise remains
        followed = "SGM Uniform"
    flags = dict(SCHEDULES[followed]) if followed else {}
    by_hand = followed in _BY_FLAG and not row.flags
    if by_hand or not row.flags:
        flags = {k: v for k, v in flags.items() if k == "timestep_spacing"}
    cls = _quickly_built(getattr(diffusers, row.scheduler))
    known = inspect.signature(cls).parameters  # from_config warns about every entry of another class
    if "original_inference_steps" in known:  # LCM picks its steps among that many
        flags["original_inference_steps"] = max(steps, config.get("original_inference_steps", 50))
    scheduler = cls.from_config({k: v for k, v in config.items() if k in known}, **row.options, **flags)
    if row.scheduler.startswith("KDPM2"):  # on a device it makes float64, which a Mac's has not
        scheduler.set_timesteps(steps, device="cpu")
        scheduler.timesteps = scheduler.timesteps.float().to(device)
    else:
        scheduler.set_timesteps(steps, device=device)
    if by_hand:
        _respace(scheduler, followed, steps)
    if hasattr(scheduler, "set_begin_index"):  # else looked up by the first timestep, which Beta may have twice
        scheduler.set_begin_index(0)
    return scheduler


def _quickly_built(cls: type) -> type:
    """Return a scheduler class whose constructor places two timesteps, where it would place all of them."""
    if cls.__name__ not in _PLACE_ALL:
        return cls

    def set_timesteps(self: Any, count: int, device: torch.device | None = None, *given: Any, **named: Any) -> None:
        cls.set_timesteps(self, count if hasattr(self, "timesteps") else 2, device, *given, **named)

    return type(cls.__name__, (cls,), {"set_timesteps": set_timesteps, "__module__": cls.__module__})


def _respace(scheduler: SchedulerMixin, schedule: str, steps: int) -> None:
    """Give Euler a, whose class has no such flags, the sigmas that Euler makes for a schedule."""
    import diffusers

    twin = diffusers.EulerDiscreteScheduler.from_config(scheduler.config, **SCHEDULES[schedule])
    twin.set_timesteps(steps, device=scheduler.timesteps.device)
    scheduler.sigmas, scheduler.timesteps = twin.sigmas, twin.timesteps


def late_steps(steps: int, strength: float) -> int:
    """How many steps a strength leaves to run."""
    return min(max(1, int(steps * strength)), steps)


def late_timesteps(scheduler: SchedulerMixin, steps: int, strength: float) -> tuple[torch.Tensor, int]:
    """The last steps of a schedule, and how many timesteps come before them."""
    import torch

    begin = (steps - late_steps(steps, strength)) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    timesteps = scheduler.timesteps
    if scheduler.order == 1 and len(timesteps) > steps:  # PLMS calls the model twice at the second one of a run
        once = torch.cat([timesteps[:1], timesteps[2:]])[begin:]
        return torch.cat([once[:2], once[1:]]), begin
    return timesteps[begin:], begin


def noise_level(sampler: str, scheduler: SchedulerMixin, t: torch.Tensor, index: int) -> NoiseLevel:
    """The noise level of the latents that are about to be denoised.

    t: the timestep. index: its place in scheduler.timesteps. Call it before scheduler.step.
    """
    from ..diffusion.noise_level import NoiseLevel

    kind = scheduler.config.prediction_type
    if SAMPLERS[sampler].sigma_space:
        # 1 / sqrt(sigma^2 + 1), asked from the scheduler itself, since second-order ones sit between their sigmas.
        scale = float(scheduler.scale_model_input(t.new_ones((), dtype=scheduler.sigmas.dtype), t))
        return NoiseLevel(scale, max(1 - scale**2, 1e-12) ** 0.5, scale, kind)
    if hasattr(scheduler, "sigmas"):
        alpha = 1 / (float(scheduler.sigmas[index]) ** 2 + 1) ** 0.5
    else:
        alpha = float(scheduler.alphas_cumprod[int(t)]) ** 0.5
    return NoiseLevel(max(alpha, 1e-6), max(1 - alpha**2, 1e-12) ** 0.5, 1.0, kind)
