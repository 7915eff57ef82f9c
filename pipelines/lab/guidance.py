"""Steer a picture by a loss on what it is about to become.

Guidance here is a function from denoiser to denoiser: it asks for x0, asks a loss how x0 should change, and answers a
changed x0. So it goes with every sampler, ours and diffusers' (latent.py), and guidances can be stacked.

Dhariwal & Nichol 2021, "Diffusion Models Beat GANs on Image Synthesis" (arXiv:2105.05233), eq. 14, adds to the noise:
    eps' = eps - sigma grad log p(y | x_t),    here with -log p(y | x_t) replaced by a loss L(x0(x_t)).
With x0 = (x_t - sigma eps) / alpha that is
    x0' = x0 - (sigma^2 / alpha) dL / dx_t.                                                                      (1)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import RequestError
from .requests import Guide
from .sampling import Denoiser, Level

FAINTEST = 0.1  # alpha below which a network's slope by x_t is mostly its error, which (1) would blow up
TEXT_GAIN = 200.0  # an angle is far below 1 where the other goals sum over pixels; so a scale of 1 to 5 is seen for all
LAYOUT = 16  # places a side that a reference's layout is compared at
CLIP_MISSING = ("a model that compares pictures with text: put the diffusers or transformers folder of a CLIP "
                "checkpoint, such as openai/clip-vit-base-patch32, into a model folder")
Loss = Callable[[Tensor], Tensor]  # pictures (b, 3, h, w) in -1..1, or latents -> (b,); lower is better

# How the pull changes on the way, by abar: near 0 in pure noise, 1 in the clean picture.
OVER_TIME: dict[str, Callable[[float], float]] = {
    "none": lambda abar: 1.0,
    "alpha-bar": lambda abar: abar,
    "root of alpha-bar": lambda abar: abar**0.5,
    "one minus alpha-bar": lambda abar: 1 - abar,
}


def guided(denoiser: Denoiser, loss: Loss, scale: float, over: str = "none",
           through_network: bool = False) -> Denoiser:
    """The denoiser, steered towards a lower loss. scale 0 changes nothing; over: a key of OVER_TIME.

    through_network: the gradient by x_t, equation (1): one backward pass through the network a step, with an alpha of
    at least FAINTEST. Otherwise the gradient by x0 with dx0 / dx_t = alpha / (alpha^2 + sigma^2), its value for
    pictures of unit variance, which makes (1)
        x0' = x0 - sigma^2 / (alpha^2 + sigma^2) dL / dx0.                                                       (2)
    The factor is the variance that such pictures have given x_t, as Song et al. 2023 take it ("Pseudoinverse-Guided
    Diffusion Models for Inverse Problems", r_t^2).
    """
    weight_at = OVER_TIME[over]

    def steer(x: Tensor, level: Level) -> Tensor:
        power = level.alpha**2 + level.sigma**2
        weight = scale * weight_at(level.alpha**2 / power)
        if weight == 0:
            return denoiser(x, level)
        with torch.enable_grad():
            if through_network:
                x_t = x.detach().requires_grad_()
                x0 = denoiser(x_t, level)
                factor = level.sigma**2 / max(level.alpha, FAINTEST)
                slope = torch.autograd.grad(loss(x0).sum(), x_t)[0] * factor                                 # (1)
            else:
                x0 = denoiser(x, level).detach().requires_grad_()
                slope = torch.autograd.grad(loss(x0).sum(), x0)[0] * (level.sigma**2 / power)                # (2)
        return x0.detach() - weight * slope

    return steer


# ------------------------------------------------------------------------------------------------------------- losses
def towards_colour(rgb: tuple[float, float, float]) -> Loss:
    """Half the squared distance of the mean colour, summed over pixels: scale 1 pulls it all the way. rgb: in -1..1."""
    def loss(pixels: Tensor) -> Tensor:
        target = pixels.new_tensor(rgb)[:pixels.shape[1]]
        area = pixels.shape[-2] * pixels.shape[-1]
        return 0.5 * area * (pixels.mean((2, 3)) - target).square().sum(1)

    return loss


def towards_symmetry() -> Loss:
    """An eighth of the squared difference from the mirrored picture, summed: scale 1 makes them equal."""
    return lambda pixels: 0.125 * (pixels - pixels.flip(3)).square().sum((1, 2, 3))


def towards_reference(reference: Tensor, coarse: int = 1) -> Loss:
    """Half the squared distance from a picture (1, c, h, w), summed, after averaging coarse x coarse pixels.

    With coarse > 1 only the layout is asked for, as in ILVR (Choi et al. 2021, arXiv:2108.02938).
    """
    wanted = F.avg_pool2d(reference, coarse)

    def loss(pixels: Tensor) -> Tensor:
        return 0.5 * coarse**2 * (F.avg_pool2d(pixels, coarse) - wanted.to(pixels)).square().sum((1, 2, 3))

    return loss


def towards_class(classifier: Callable[[Tensor], Tensor], label: int) -> Loss:
    """-log p(label | x0) of a classifier (b, c, h, w) -> (b, classes) logits; arXiv:2105.05233, sec. 4."""
    return lambda pixels: -F.log_softmax(classifier(pixels), 1)[:, label]


class Scorer(Protocol):
    """Anything that tells how well pictures fit a text, such as CLIP (scorer.py finds one)."""

    def image_features(self, pixels: Tensor) -> Tensor:
        """(b, 3, h, w) in -1..1 -> (b, d), differentiable."""

    def text_features(self, prompt: str) -> Tensor:
        """-> (1, d)."""


def towards_text(scorer: Scorer, text: str) -> Loss:
    """Squared angle on the sphere, 2 arcsin(|u - v| / 2)^2, between picture and text features.

    The spherical distance loss of Crowson's CLIP-guided diffusion, as in k-diffusion's published samples.
    """
    with torch.no_grad():
        wanted = F.normalize(scorer.text_features(text), dim=1)

    def loss(pixels: Tensor) -> Tensor:
        found = F.normalize(scorer.image_features(pixels), dim=1)
        return 2 * ((found - wanted.to(found)).norm(dim=1) / 2).clamp(max=1 - 1e-6).arcsin().square()

    return loss


def averaged_over_crops(loss: Loss, count: int, generator: torch.Generator, smallest: float = 0.6) -> Loss:
    """Mean loss of `count` random square cut-outs, resized to the whole; 1 looks at the whole picture.

    A scorer fooled by one view is seldom fooled by all of them (Crowson et al. 2022, arXiv:2204.08583).
    smallest: share of the shorter side. generator: on the CPU.
    """
    if count == 1:
        return loss

    def over_crops(pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        total = 0.0
        for _ in range(count):
            share, across, down = torch.rand(3, generator=generator).tolist()
            side = max(1, round(min(height, width) * (smallest + (1 - smallest) * share)))
            top, left = int(down * (height - side + 1)), int(across * (width - side + 1))
            cut = pixels[..., top:top + side, left:left + side]
            total = total + loss(F.interpolate(cut, (height, width), mode="bilinear", antialias=True))
        return total / count

    return over_crops


def on_pictures(loss: Loss, decode: Callable[[Tensor], Tensor]) -> Loss:
    """A loss on pictures as a loss on latents. decode: (b, 4, h, w) -> (b, 3, 8 h, 8 w), differentiable."""
    return lambda latents: loss(decode(latents))


# ------------------------------------------------------------------------------------------------------------ request
@dataclass(frozen=True)
class Means:
    """What a goal may need beside the request. decode: for models that work on latents. label: for the classifier."""

    decode: Callable[[Tensor], Tensor] | None = None
    scorer: Scorer | None = None
    classifier: Callable[[Tensor], Tensor] | None = None
    label: int = 0
    reference: Tensor | None = None


def asked(request: Guide, denoiser: Denoiser, means: Means) -> Denoiser:
    """The denoiser, steered as a request says. Raises RequestError naming what its goal lacks."""
    generator = torch.Generator("cpu").manual_seed(request.seed)
    loss = averaged_over_crops(goal(request, means), request.crops, generator)
    if means.decode is not None:
        loss = on_pictures(loss, means.decode)
    return guided(denoiser, loss, request.scale, request.over, request.through_network)


def goal(request: Guide, means: Means) -> Loss:
    """The loss on pictures that a request asks for. Raises RequestError naming what it lacks."""
    return GOALS[request.goal](request, means)


def _colour(request: Guide, means: Means) -> Loss:
    red, green, blue = (int(request.colour[i:i + 2], 16) / 127.5 - 1 for i in (1, 3, 5))
    return towards_colour((red, green, blue))


def _symmetry(request: Guide, means: Means) -> Loss:
    return towards_symmetry()


def _reference(request: Guide, means: Means) -> Loss:
    reference = _given(means.reference, "a picture to go by. Drop one on the left")
    return towards_reference(reference, max(1, reference.shape[-1] // LAYOUT))


def _classifier(request: Guide, means: Means) -> Loss:
    return towards_class(_given(means.classifier, "a run of the page Train on a set with classes"), means.label)


def _text(request: Guide, means: Means) -> Loss:
    if not request.prompt.strip():
        raise RequestError("Prompt: the goal text needs one.", "prompt")
    of_angle = towards_text(_given(means.scorer, CLIP_MISSING), request.prompt)
    return lambda pixels: TEXT_GAIN * of_angle(pixels)


def _given(means: Any, what: str) -> Any:
    if means is None:
        raise RequestError(f"Goal: this goal needs {what}.", "goal")
    return means


# The goals that a request can name. To add one: a row here, and its word in requests.Guide.
GOALS: dict[str, Callable[[Guide, Means], Loss]] = {
    "colour": _colour, "symmetry": _symmetry, "reference": _reference, "classifier": _classifier, "text": _text,
}
