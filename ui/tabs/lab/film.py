"""Denoising, step by step: a run as a film strip."""

from __future__ import annotations

from pipelines.demo import EXAMPLES

from ...lab_page import Look

ABOUT = """
A picture begins as noise. At every step the model says what clean picture it believes to be behind it
(*predicted x0*), and the sampler walks a part of the way there: "Denoising Diffusion Probabilistic Models" adds fresh
noise on each step, "Denoising Diffusion Implicit Models" adds none and needs far fewer steps. The row *guidance* is
what the prompt changes about the prediction; "Classifier-Free Diffusion Guidance" multiplies it by the guidance scale.
Run two samplers from the same noise to see where they part; the animations can be downloaded as WebP files.
"""

CODE = """
for t in scheduler.timesteps:
    nothing, wanted = unet(cat([x_t, x_t]), t, embeds).chunk(2)
    eps = nothing + guidance_scale * (wanted - nothing)
    x0 = (x_t - sigma * eps) / alpha        # what it believes in
    x_t = scheduler.step(eps, t, x_t)       # a part of the way
"""

LOOK = Look("film", "Denoising", ABOUT, CODE, front=("prompt",), values={"prompt": EXAMPLES[1]["prompt"]}, wide=True)
