"""Fine-tune an unconditional model: the same noise before and after."""

from __future__ import annotations

from ..description import Look, Opens

ABOUT = """
A model that was trained on much can be taught something narrower in a moment, because it only has to shift what it
knows. A *DDPMPipeline* draws whatever it was trained on, unasked ("Denoising Diffusion Probabilistic Models"); DDIM
takes the place of its slow sampler ("Denoising Diffusion Implicit Models"). It draws, learns, and draws from the same
noise again; the loss curve tells whether the learning rate and the batch fit. The result is a diffusers pipeline. With
a token and a name it is uploaded to the Hugging Face hub with a model card.
"""

LOOK = Look(
    "finetune", "Fine-tune", ABOUT, ("lab.finetune._train", "lab.finetune.advice"), front=("start", "data"),
    values={"epochs": 6, "batch_size": 16, "accumulation": 1, "learning_rate": 5e-4, "samples": 8, "steps": 20},
    more=("hub_model", "push_to", "token", "wandb"), choices={"start": "unconditional", "data": "sets"},
    plots={"Loss": "update"}, opens=Opens("train", "Train", {
        "batch_size": "batch_size", "accumulation": "accumulation", "learning_rate": "learning_rate", "seed": "seed"}))
