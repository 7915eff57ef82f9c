"""Train from scratch: a small diffusion model learns a small set, before one's eyes."""

from __future__ import annotations

from ..description import Look, Opens

ABOUT = """
The whole of training is short: take pictures, add noise of random strength, ask the network what the noise was, and
move its weights a little towards the right answer ("Denoising Diffusion Probabilistic Models"). The network is a small
U-Net ("U-Net: Convolutional Networks for Biomedical Image Segmentation") that is told the time and, now and then left
out, the class. A minute on the digits gives shapes, three give digits. The other recipe, *latents*, is Stable
Diffusion's own step: captions instead of classes, a frozen autoencoder and text encoder, those of the model above
("High-Resolution Image Synthesis with Latent Diffusion Models"). Every epoch is saved: stop, close the page, go on.
Draw from a run on the page Sample.
"""

LOOK = Look(
    "train", "Train", ABOUT, ("lab.learner.loss_of", "lab.learner.Learner.update", "lab.networks.Block"),
    front=("data", "minutes", "run_name"), values={"minutes": 0.8},
    more=("side", "width", "levels", "timesteps", "schedule", "loss", "accumulation", "decay", "precision", "ema",
          "validation", "class_dropout", "hub_data", "token"),
    choices={"data": "sets", "run_name": "resumable"}, plots={"Loss": "update"}, wide=True,
    opens=Opens("train", "Train", {"batch_size": "batch_size", "accumulation": "accumulation",
                                   "learning_rate": "learning_rate", "seed": "seed"}))
