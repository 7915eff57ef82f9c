"""Autoencoder: what is left of a picture in latent space."""

from __future__ import annotations

from ...lab_page import Look

ABOUT = """
Stable Diffusion does not draw pixels. An autoencoder squeezes every 8 x 8 pixels into a few numbers, the *latents*, and
the noise is taken out of these ("High-Resolution Image Synthesis with Latent Diffusion Models"). What it loses, no
prompt can bring back: look for small letters and thin lines in the difference, which is shown 4 times as bright. PSNR
measures the error by pixels, SSIM by local structure ("Image Quality Assessment: From Error Visibility to Structural
Similarity"); 1 is equal.
"""

CODE = """
posterior = vae.encode(pixels).latent_dist       # pixels in -1..1
latents = posterior.mean * vae.config.scaling_factor
back = vae.decode(latents / vae.config.scaling_factor).sample
psnr = -10 * log10(((pixels - back) / 2).square().mean())
"""

LOOK = Look("autoencoder", "Autoencoder", ABOUT, CODE, tables=("What is kept",), seeded=False)
