"""Noise and schedules: curves, where samplers step, a picture with more and more noise, and views of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ...diffusion import losses, noise_schedules
from ...diffusion.noise_level import Prediction
from ...diffusion.noise_schedules import Schedule
from ...events import Event, Tabled
from ...generation import decode, samplers
from .. import autoencoder
from ..context import Made, Scene
from ..page_requests import Noise

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

POINTS = 100  # of a curve
LOWEST_BETA = 1e-5
LOWEST_SNR_DB, HIGHEST_SNR_DB = -60.0, 60.0
# The schedules that are drawn, those that diffusers has with its words; the others lie close to one of them.
SPACED = {"Karras": "", "Exponential": "", "Beta": "", "Uniform": " (linspace)", "SGM Uniform": "",
          "Turbo": " (trailing)", "DDIM": " (leading)", "Align Your Steps": "", "KL Optimal": ""}
SHEET_PX, EDGE_PX, DOT_PX = 512, 48, 10  # of a drawing that is shown at half its size
PAPER, LINE, DOT = (255, 255, 255), (180, 180, 186), (37, 99, 235)
STEPPED = "DPM++ 2M"  # a sampler that leaves a schedule as it is


def answer(request: Noise, scene: Scene) -> Iterator[Event | Made]:
    known = {name: noise_schedules.make(name, request.timesteps) for name in noise_schedules.SCHEDULES}
    curves = {**known, "this model's": _own_schedule(scene.pipe.scheduler)}
    yield _curves("log10 beta", curves, lambda schedule: torch.log10(schedule.betas.clamp(min=LOWEST_BETA)))
    yield _curves("alpha-bar", curves, lambda schedule: schedule.alphas_cumprod)
    yield _curves("SNR (dB)", curves, lambda schedule: _decibel(schedule.snr))
    placed = _placed(scene.pipe.scheduler, request.steps)
    yield Tabled("Where samplers step: SNR (dB)", ("step", "SNR (dB)", "schedule"), tuple(
        (i, snr, spacing) for spacing, steps in placed.items() for i, (_, snr) in enumerate(steps, 1)))
    schedule = known[request.schedule]
    yield _weights(schedule)
    yield _posteriors(schedule, request.count)
    x0 = autoencoder.pixels_of(scene.opened(request.image, 512))
    eps = torch.randn(x0.shape, generator=torch.Generator("cpu").manual_seed(request.seed))
    for t in _spread(schedule, request.count):
        scene.go_on()
        x_t = noise_schedules.noised(schedule, x0, eps, torch.tensor([t]))
        yield Made(f"t = {t}, alpha-bar {float(schedule.alphas_cumprod[t]):.3f}", decode.to_image(x_t))
    yield from _one_step_back(schedule, x0, eps)
    yield from _on_the_curve(curves["this model's"], placed)


def _one_step_back(schedule: Schedule, x0: Tensor, eps: Tensor) -> Iterator[Made]:
    """Half way: one prediction in its four forms, and the posterior's mean a tenth of the way back."""
    t, s = len(schedule) // 2, len(schedule) * 2 // 5
    now, before = (tuple(map(float, schedule.at(torch.tensor([at]), x0.new_zeros(1)))) for at in (t, s))
    seen = Prediction(noise_schedules.noised(schedule, x0, eps, torch.tensor([t])), x0, eps, *now)
    for name, form in (("noise", "noise"), ("x0", "x0"), ("v", "v"), ("score", "score")):
        picture = seen.form(form)
        yield Made(f"t = {t} as {name}", decode.to_image((picture / (3 if name != "x0" else 1)).clamp(-1, 1)))
    mean, variance = noise_schedules.posterior(x0, seen.x_t, now, before)
    yield Made(f"Mean of q(x at {s} | x at {t}, x0), variance {variance:.3f}", decode.to_image(mean.clamp(-1, 1)))


def _own_schedule(scheduler: SchedulerMixin) -> Schedule:
    abar = scheduler.alphas_cumprod.double().cpu()
    return Schedule("this model's", abar.sqrt(), (1 - abar).sqrt())


def _placed(scheduler: SchedulerMixin, steps: int) -> dict[str, list[tuple[float, float]]]:
    """Spacing -> (t / T, SNR in dB) of every step, on the model's own noise levels."""
    placed: dict[str, list[tuple[float, float]]] = {}
    for spacing, in_diffusers in SPACED.items():
        made = samplers.make(STEPPED, spacing, dict(scheduler.config), steps, "cpu")
        levels = [(t, samplers.noise_level(STEPPED, made, t, i)) for i, t in enumerate(made.timesteps)]
        placed[spacing + in_diffusers] = [
            ((float(t) + 1) / len(scheduler.alphas_cumprod), round(_decibel_of(level.alpha, level.sigma), 2))
            for t, level in levels]
    return placed


def _on_the_curve(own: Schedule, placed: dict[str, list[tuple[float, float]]]) -> Iterator[Made]:
    """The model's SNR over t, once for each spacing, with a dot where it steps."""
    curve = list(_points(own, _decibel(own.snr)))
    lowest, highest = min(snr for _, snr in curve), max(snr for _, snr in curve)

    def place(share: float, snr: float) -> tuple[float, float]:
        down = (highest - min(max(snr, lowest), highest)) / (highest - lowest)
        return EDGE_PX + share * (SHEET_PX - 2 * EDGE_PX), EDGE_PX + down * (SHEET_PX - 2 * EDGE_PX)

    for spacing, steps in placed.items():
        sheet = Image.new("RGB", (SHEET_PX, SHEET_PX), PAPER)
        draw = ImageDraw.Draw(sheet)
        draw.line([place(*point) for point in curve], fill=LINE, width=4)
        for x, y in (place(*step) for step in steps):
            draw.ellipse((x - DOT_PX, y - DOT_PX, x + DOT_PX, y + DOT_PX), fill=DOT)
        yield Made(f"{spacing}, on the curve", sheet.resize((SHEET_PX // 2, SHEET_PX // 2), Image.Resampling.LANCZOS))


def _weights(schedule: Schedule) -> Tabled:
    """What an error in the noise counts for in each loss, relative to its mean over the timesteps."""
    known = {"simple": torch.ones_like(schedule.alpha), "variational bound": noise_schedules.bound_weight(schedule),
             "min-SNR 5": losses.min_snr_weight(schedule.alpha, schedule.sigma, "noise")}
    rows = []
    for name, weight in known.items():
        weight = weight.nan_to_num(posinf=0.0)
        relative = torch.log10((weight / weight.mean()).clamp(min=1e-4))
        rows += [(share, value, name) for share, value in _points(schedule, relative)]
    return Tabled("Loss weight, log10", ("t / T", "log10 weight", "loss"), tuple(rows))


def _posteriors(schedule: Schedule, count: int) -> Tabled:
    """One step back, q(x_(t-1) | x_t, x_0) = N(a x_t + b x_0, variance): DDPM eq. 6 and 7."""
    rows = []
    for t in _spread(schedule, count)[1:]:
        now, before = ((float(schedule.alpha[at]), float(schedule.sigma[at])) for at in (t, t - 1))
        if now[1] <= 0 or before[0] <= 0:
            continue
        unit, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        of_x0, variance = noise_schedules.posterior(unit, zero, now, before)
        of_x_t, _ = noise_schedules.posterior(zero, unit, now, before)
        rows.append((t, f"{float(of_x_t):.4f}", f"{float(of_x0):.4f}", f"{float(schedule.betas[t]):.5f}",
                     f"{variance:.5f}"))
    return Tabled("One step back", ("t", "share of x_t", "share of x0", "beta", "variance"), tuple(rows))


def _curves(title: str, known: dict[str, Schedule], value: Callable[[Schedule], Tensor]) -> Tabled:
    rows = [(share, one, name) for name, schedule in known.items() for share, one in _points(schedule, value(schedule))]
    return Tabled(title, ("t / T", title, "schedule"), tuple(rows))


def _points(schedule: Schedule, values: Tensor) -> Iterator[tuple[float, float]]:
    """t as a share of the way, so that schedules of any length can be compared."""
    for t in _spread(schedule, min(POINTS, len(schedule))):
        yield round((t + 1) / len(schedule), 4), float(f"{float(values[t]):.5g}")


def _spread(schedule: Schedule, count: int) -> list[int]:
    return [round(i * (len(schedule) - 1) / (count - 1)) for i in range(count)]


def _decibel(snr: Tensor) -> Tensor:
    return (10 * torch.log10(snr.clamp(min=1e-30))).clamp(LOWEST_SNR_DB, HIGHEST_SNR_DB)


def _decibel_of(alpha: float, sigma: float) -> float:
    return float(_decibel(torch.tensor((alpha / sigma) ** 2, dtype=torch.float64)))
