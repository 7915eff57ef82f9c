"""One run of a solver along noise levels, in the form that the denoise loop and the library's pipelines walk it.

The solver is a generator that asks for x0 at a level (diffusion/solvers); this holds where it stands. The levels of
all its calls are known before the first, so that no step reads anything back from the device. The latents are kept in
float32, whatever the model's precision.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import DDPMScheduler
from diffusers.configuration_utils import FrozenDict
from torch import Tensor

from ..diffusion.noise_level import NoiseLevel
from ..diffusion.sigma_schedules import ModelLevels
from ..diffusion.solvers.brownian import BrownianNoise
from ..diffusion.solvers.walk import Noise, Solver, Walk, asked_levels
from .noise import Source, unit_noise
from .sampler_table import Sampler

_BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")


def model_levels(config: Mapping[str, Any], is_xl: bool = False) -> ModelLevels:
    """The noise levels of a checkpoint, by its scheduler's config."""
    betas = {name: config[name] for name in _BETAS if config.get(name) is not None}
    return ModelLevels.of_abar(DDPMScheduler(**betas).alphas_cumprod, is_xl)


class SigmaWalk:
    """A run of one solver. Has the face of a diffusers scheduler, so that the library's pipelines can walk it too.

    timesteps: (calls,) float32, the model's time of each call, not rounded. sigmas: the level of each. order: calls of
    a step in the middle of a run. begin_index: calls of the whole run that are left out before the first.
    init_noise_sigma: what unit noise is multiplied by to start.
    """

    def __init__(self, row: Sampler, solver: Solver, options: Mapping[str, Any], sigmas: Sequence[float],
                 levels: ModelLevels, config: Mapping[str, Any], device: Any, unit: bool = False):
        self.order, self.paired, self.adaptive = row.order, row.paired, row.adaptive
        self._brownian = row.brownian
        self._solver, self._options, self._all, self._levels = solver, dict(options), list(sigmas), levels
        self._device = device
        self.config = FrozenDict({"prediction_type": "epsilon", **config})
        self.init_noise_sigma = (1 + sigmas[0] ** 2) ** 0.5 if unit else sigmas[0]
        self.set_begin_index(0)

    # ------------------------------------------------------------------------------------------- as diffusers has it
    def set_timesteps(self, num_inference_steps: int, device: Any = None, **kwargs: Any) -> None:
        """Go back to the beginning. The number of steps was settled when the walk was made."""
        self._device = self._device if device is None else device
        self.set_begin_index(0)

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Leave out what comes before a call of the whole run."""
        self.begin_index = begin_index
        self._path = self._all[begin_index // self.order:]
        self.sigmas = [self._path[0]] if self.adaptive else asked_levels(self._solver, self._path, self.paired,
                                                                         **self._options)
        self.timesteps = torch.tensor([self._levels.timestep(sigma) for sigma in self.sigmas],
                                      dtype=torch.float32).to(self._device)
        self._walk: Walk | None = None
        self._index = 0
        self.latents: Tensor | None = None

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """Bring latents to unit variance, as the model knows them."""
        return sample * self.level(self._index).scale

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any = None) -> Tensor:
        """Noise clean latents to the level of the first call."""
        return original_samples + noise * self._path[0]

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor,
             generator: Source | Sequence[Source] | None = None,
             return_dict: bool = False) -> tuple[Tensor]:
        """Take the model's output; returns the latents of the next call, or the result."""
        if self._walk is None:
            generators = generator if isinstance(generator, list | tuple) else [generator]
            self.begin(sample, generators)
        x0 = self.level(self._index).x0(model_output.float(), self.latents)
        return (self.advance(x0).to(sample.dtype),)

    # ------------------------------------------------------------------------------------------------------- our own
    @property
    def running(self) -> bool:
        """Whether another call is to come."""
        return self._walk is None or self._index < len(self.sigmas)

    def level(self, index: int) -> NoiseLevel:
        """The noise level of a call, counted from the first that is made: x0 + sigma eps, scaled to unit variance."""
        sigma = self.sigmas[min(index, len(self.sigmas) - 1)]
        scale = (1 + sigma**2) ** -0.5
        return NoiseLevel(scale, sigma * scale, scale, self.config.prediction_type)

    def begin(self, latents: Tensor, generators: Sequence[Source],
              options: Mapping[str, float] | None = None) -> None:
        """Start. latents: (b, c, h, w) at the first level. options: eta and the like, where the solver knows them."""
        known = inspect.signature(self._solver).parameters
        chosen = {name: value for name, value in (options or {}).items() if name in known}
        if chosen:  # noise that is added before a step moves the level that is asked at
            self._options |= chosen
            self.set_begin_index(self.begin_index)
        self.latents = latents.float()
        self._walk = self._solver(self.latents, self._path, self._noise(generators), **self._options)
        self._follow(next(self._walk))

    def advance(self, x0: Any) -> Tensor:
        """Take x0, or with a paired solver (x0, x0 without the prompt). Returns the next latents, or the result."""
        self._index += 1
        try:
            self._follow(self._walk.send(x0))
        except StopIteration as end:
            self.latents = end.value
            del self.sigmas[self._index:]
        return self.latents

    def _follow(self, asked: tuple[Tensor, float]) -> None:
        self.latents, sigma = asked
        if self.adaptive and self._index:  # its levels come to light as it walks
            self.sigmas.append(sigma)
            t = torch.tensor([self._levels.timestep(sigma)], dtype=torch.float32).to(self._device)
            self.timesteps = torch.cat([self.timesteps, t])

    def _noise(self, generators: Sequence[Source]) -> Noise:
        like = self.latents
        if self._brownian:
            above = [sigma for sigma in self._path if sigma > 0]
            return BrownianNoise(like, min(above), max(above), [one.initial_seed() for one in generators])
        return lambda sigma, after: unit_noise(generators, like.shape, like.device, like.dtype)
