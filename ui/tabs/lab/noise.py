"""Noise and schedules: a picture drowned in noise, and the curves that say how fast."""

from __future__ import annotations

from ...lab_page import Look

ABOUT = """
Training shows the model pictures with noise added, and asks it what the noise was. A *schedule* says how much at which
timestep t: *beta* is the variance that one step adds, *alpha-bar* the share of the picture that is left ("Denoising
Diffusion Probabilistic Models"), SNR their ratio. The cosine schedule of "Improved Denoising Diffusion Probabilistic
Models" keeps more of the picture for longer; most schedules never quite reach pure noise, which "Common Diffusion
Noise Schedules and Sample Steps are Flawed" mends.
"""

CODE = """
betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
alphas_cumprod = torch.cumprod(1 - betas, 0)
abar = alphas_cumprod[t]
x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * eps
snr = abar / (1 - abar)
"""

LOOK = Look("noise", "Noise", ABOUT, CODE, front=("schedule",), plots=("log10 beta", "alpha-bar", "SNR (dB)"))
