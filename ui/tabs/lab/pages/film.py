"""Denoising, step by step: a run as a film strip."""

from __future__ import annotations

from pipelines.demo import EXAMPLES

from ..description import Look, Opens

ABOUT = """
A picture begins as noise. At every step the model says what clean picture it believes to be behind it
(*predicted x0*), and the sampler walks a part of the way there: "Denoising Diffusion Probabilistic Models" adds fresh
noise on each step, "Denoising Diffusion Implicit Models" adds none and needs far fewer steps. The row *guidance* is
what the prompt changes about the prediction; "Classifier-Free Diffusion Guidance" multiplies it by the guidance scale.
Run several samplers, or one with several numbers of steps, from the same noise to see where they part. The animations
can be downloaded.
"""

LOOK = Look(
    "film", "Denoising", ABOUT, ("lab.latent.TextDenoiser.__call__", "lab.latent.walk"), front=("prompt",),
    values={"prompt": EXAMPLES[1]["prompt"]}, wide=True,
    opens=Opens("txt2img", "Text to image", {name: name for name in ("prompt", "sampler", "steps", "guidance_scale",
                                                                     "seed")}))
