"""Autoencoder: what is left of a picture in latent space."""

from __future__ import annotations

from ..description import Look, Opens

ABOUT = """
Stable Diffusion does not draw pixels. An autoencoder squeezes every 8 x 8 pixels into a few numbers, the *latents*, and
the noise is taken out of these ("High-Resolution Image Synthesis with Latent Diffusion Models"). What it loses, no
prompt can bring back: look for small letters and thin lines in the difference, which is shown 4 times as bright. PSNR
measures the error by pixels, SSIM by local structure; 1 is equal. Give a second picture to walk from one to the other
in latents and in pixels, and a third to compute first + second - third. A VAE file or a tiny autoencoder from a model
folder can be compared.
"""

LOOK = Look(
    "autoencoder", "Autoencoder", ABOUT, ("lab.autoencoder.encode", "lab.autoencoder.decode", "lab.autoencoder.psnr",
                                          "lab.autoencoder.interpolated"), choices={"other": "vaes"},
    tables=("What is kept",), seeded=False, opens=Opens("img2img", "Image to image", picture="image"))
