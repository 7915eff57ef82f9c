"""What sampler and schedule meant in Atelier 0.1.0: the library's schedulers, under the names that it gave them.

Pictures of that version say so in their text, and come out as they were. Nothing new belongs here. Importing this file
does not import torch; making a scheduler does.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
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

LMS_ORDER = 4  # slopes of earlier steps that LMS looks back at, as the library's class does by itself
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
    """The schedules that a sampler could follow; none for a name that there was not."""
    return tuple(name for name in SCHEDULES if sampler in SAMPLERS and _fits(SAMPLERS[sampler], name))


def calls(sampler: str, steps: int) -> int:
    """How often a run of so many steps calls the model."""
    row = SAMPLERS[sampler]
    if row.scheduler == "PNDMScheduler":  # the second step's call is made twice
        return steps + (steps > 1)
    return row.order * (steps - 1) + 1


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


def make(sampler: str, schedule: str, config: dict[str, Any], steps: int, device: Any) -> SchedulerMixin:
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

    def set_timesteps(self: Any, count: int, device: Any = None, *given: Any, **named: Any) -> None:
        cls.set_timesteps(self, count if hasattr(self, "timesteps") else 2, device, *given, **named)

    return type(cls.__name__, (cls,), {"set_timesteps": set_timesteps, "__module__": cls.__module__})


def _respace(scheduler: Any, schedule: str, steps: int) -> None:
    """Give Euler a, whose class has no such flags, the sigmas that Euler makes for a schedule."""
    import diffusers

    twin = diffusers.EulerDiscreteScheduler.from_config(scheduler.config, **SCHEDULES[schedule])
    twin.set_timesteps(steps, device=scheduler.timesteps.device)
    scheduler.sigmas, scheduler.timesteps = twin.sigmas, twin.timesteps


def _level(sampler: str, scheduler: Any, t: torch.Tensor, index: int) -> NoiseLevel:
    """The noise level of the latents that are about to be denoised. index: of t in scheduler.timesteps."""
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


class LibraryWalk:
    """A run of one of the library's schedulers, with the face of a SigmaWalk."""

    paired = adaptive = False

    def __init__(self, sampler: str, schedule: str, config: dict[str, Any], steps: int, device: Any):
        self._sampler, self._steps = sampler, steps
        self._scheduler = make(sampler, schedule, config, steps, device)
        self.order, self.init_noise_sigma = self._scheduler.order, self._scheduler.init_noise_sigma
        self.scale_model_input, self.add_noise = self._scheduler.scale_model_input, self._scheduler.add_noise
        self.timesteps, self.begin_index = self._scheduler.timesteps, 0
        self._index, self._kwargs = 0, {}
        self.latents: torch.Tensor | None = None

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Leave out what comes before a timestep."""
        import torch

        scheduler, self.begin_index = self._scheduler, begin_index
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin_index)
        timesteps = scheduler.timesteps
        if scheduler.order == 1 and len(timesteps) > self._steps:  # PLMS calls the model twice at a run's second one
            once = torch.cat([timesteps[:1], timesteps[2:]])[begin_index:]
            self.timesteps = torch.cat([once[:2], once[1:]])
        else:
            self.timesteps = timesteps[begin_index:]

    @property
    def running(self) -> bool:
        """Whether another call is to come."""
        return self._index < len(self.timesteps)

    def level(self, index: int) -> NoiseLevel:
        """The noise level of a call, counted from the first that is made. Ask before `advance`."""
        return _level(self._sampler, self._scheduler, self.timesteps[index], self.begin_index + index)

    def begin(self, latents: torch.Tensor, generators: Sequence[torch.Generator],
              options: Mapping[str, float] | None = None) -> None:
        """Start. options: what the person set; the library's class takes what it knows."""
        self.latents = latents
        accepted = inspect.signature(self._scheduler.step).parameters
        self._knows_order = "order" in accepted
        given = {"generator": list(generators), **(options or {})}
        self._kwargs = {name: value for name, value in given.items() if name in accepted}

    def advance(self, output: torch.Tensor) -> torch.Tensor:
        """Take the model's raw output, or what would have meant another x0."""
        self._index += 1
        if self._knows_order:  # LMS takes its start for the schedule's, and an image to image run has no past
            self._kwargs["order"] = min(self._index, LMS_ORDER)
        t = self.timesteps[self._index - 1]
        self.latents = self._scheduler.step(output, t, self.latents, **self._kwargs, return_dict=False)[0]
        return self.latents
