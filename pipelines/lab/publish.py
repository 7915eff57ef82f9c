"""What leaves this machine when somebody asks for it: a model with its card to the hub, a loss curve to W&B."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import RequestError, StudioError
from .requests import FineTune

LOGIN_S = 10
CARD = """---
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags: [diffusers, unconditional-image-generation]
---
# {title}

An unconditional diffusion model: {begun}, fine-tuned with Atelier.
Learned from {pictures} pictures of {side} px in {updates} updates (batch size {batch}, learning rate {rate:g}).

| before | after, from the same noise |
|---|---|
| ![before](before.png) | ![after](after.png) |

    from diffusers import DDPMPipeline
    image = DDPMPipeline.from_pretrained("{title}")().images[0]
"""


def push(folder: Path, repository: str, token: str) -> str:
    """Upload a saved pipeline with its model card to the Hugging Face hub; returns its address."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    try:
        repository = api.create_repo(repository, exist_ok=True, private=True).repo_id
        return str(api.upload_folder(folder_path=folder, repo_id=repository))
    except Exception as error:  # the network's and the hub's errors are of many kinds
        raise StudioError(f"The result is saved here, but {repository} on the hub did not take it. May this token "
                          "write there, and is the network up?") from error


def weights_and_biases(request: FineTune, folder: Path) -> Any:
    """A run of W&B, as a context. Raises RequestError where its package is not installed or knows no account."""
    try:
        import wandb
    except ImportError:
        raise RequestError("Weights & Biases: its package is not installed: pip install wandb", "wandb") from None
    folder.mkdir(parents=True, exist_ok=True)
    config = request.model_dump(exclude={"token", "output"})
    patience = wandb.Settings(login_timeout=LOGIN_S)  # it may ask for a key on the terminal, and wait
    try:
        return wandb.init(project="atelier-lab", dir=folder, config=config, settings=patience)
    except wandb.Error as error:
        raise RequestError("Weights & Biases: no run could be begun there. Log in once with: wandb login",
                           "wandb") from error
