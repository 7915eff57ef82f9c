"""Noise and schedules: a picture drowned in noise, and the curves that say how fast."""

from __future__ import annotations

from ..description import Look, Opens

ABOUT = """
Training shows the model pictures with noise added, and asks it what the noise was. A *schedule* says how much at which
timestep t: *beta* is the variance that one step adds, *alpha-bar* the share of the picture that is left ("Denoising
Diffusion Probabilistic Models"), SNR their ratio. The cosine schedule of "Improved Denoising Diffusion Probabilistic
Models" keeps more of the picture for longer; most schedules never quite reach pure noise, which "Common Diffusion
Noise Schedules and Sample Steps are Flawed" mends. Whether a network is asked for the noise, the picture (x0), v or the
score, each follows from the other: they are views of one prediction ("Progressive Distillation for Fast Sampling of
Diffusion Models"). The *simple* loss counts every timestep alike, where the variational bound would look almost only
at the last traces of noise; "Efficient Diffusion Training via Min-SNR Weighting Strategy" lies between. Samplers take
few steps, and *where* they take them is one more choice ("Elucidating the Design Space of Diffusion-Based Generative
Models").
"""

LOOK = Look(
    "noise", "Noise", ABOUT,
    ("diffusion.noise_schedules.noised", "diffusion.noise_schedules.posterior", "diffusion.noise_level.Prediction",
     "diffusion.noise_schedules.bound_weight"), front=("schedule",),
    plots={"log10 beta": "t / T", "alpha-bar": "t / T", "SNR (dB)": "t / T", "Loss weight, log10": "t / T",
           "Where samplers step: SNR (dB)": "step"}, tables=("One step back",),
    opens=Opens("img2img", "Image to image", {"seed": "seed"}, "image"))
