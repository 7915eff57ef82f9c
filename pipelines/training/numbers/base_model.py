"""The model that is trained on: found by name, loaded frozen, with what a training step must know of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ...errors import RequestError
from ...families import FAMILIES, Family
from ...library import checkpoints
from ...library.read.card import ModelCard
from ...library.read.prediction import Predictions, with_prediction
from ...machine import device
from ...machine.device import Placement
from ...models import loading
from ...models.components import Components
from ...settings import Settings
from ..request import TrainLora

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Base:
    """components: of the family's pipeline, frozen, in eval mode. autocast: dtype of the arithmetic; float32 is none.

    alphas_cumprod: (timesteps,) float32. prediction_type: epsilon, v_prediction or sample, as the checkpoint says.
    """

    card: ModelCard
    family: Family
    components: Components
    placement: Placement
    autocast: torch.dtype
    alphas_cumprod: torch.Tensor
    prediction_type: str

    @property
    def unet(self) -> UNet2DConditionModel:
        return self.components["unet"]

    @property
    def vae(self) -> AutoencoderKL:
        return self.components["vae"]

    @property
    def encoders(self) -> dict[str, PreTrainedModel]:
        return {name: self.components[name] for _, name in self.family.text_encoders}

    @property
    def device(self) -> torch.device:
        return torch.device(self.placement.device)

    @property
    def latent_px(self) -> int:
        """Pixels of a side under one latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def size_step(self) -> int:
        """Sides must be multiples of this many px: the U-Net halves the latents, too."""
        return self.latent_px * 2 ** (len(self.unet.config.block_out_channels) - 1)

    def park(self, text_too: bool) -> None:
        """Move what training does not use to host memory, and the U-Net to its device; a no-op on a CPU."""
        for part in (self.vae, *(self.encoders.values() if text_too else ())):
            part.to("cpu")
        self.unet.to(self.device)

    def recall(self) -> None:
        """Bring everything back, to draw."""
        for part in (self.vae, *self.encoders.values()):
            part.to(self.device)


def find_card(config: TrainLora, settings: Settings) -> ModelCard:
    """Look up what a config calls its model. settings: say where models lie, and what was chosen for them."""
    if config.model == "demo":
        cards, _ = checkpoints.find(settings.model_copy(update={"model": None}))
        return checkpoints.lookup(cards, checkpoints.EMBEDDED_NAME)
    cards, _ = checkpoints.find(settings.model_copy(update={"model": config.model}))
    if config.prediction_type != "auto":
        return with_prediction(cards[0], config.prediction_type, "person")
    return Predictions(settings.data_dir).told(cards[0])


def load(card: ModelCard, config: TrainLora, settings: Settings) -> Base:
    """Load a checkpoint for training. Raises RequestError for one that cannot be trained."""
    if card.inpainting:
        raise RequestError(f"Model: {card.title} is an inpainting checkpoint. Train on the model it was made from; the "
                           "LoRA works with both.", "model")
    family = FAMILIES[card.family]
    if family.lora is None:
        raise RequestError(f"Model: {family.label} models cannot be trained here yet.", "model")
    placement, autocast = _placement(config, card)
    components = loading.load(card, placement, offline=settings.offline)
    scheduler = components["scheduler"]
    return Base(card, family, components, placement, autocast, scheduler.alphas_cumprod.float().cpu(),
                scheduler.config.prediction_type)


def _placement(config: TrainLora, card: ModelCard) -> tuple[Placement, torch.dtype]:
    """Where the weights go, and the number format of the arithmetic.

    A frozen base is kept in that format; with the method full its weights are what is trained, and stay float32.
    float16 is never chosen: gradients of a LoRA vanish in it. The autoencoder runs once a picture, in float32.
    """
    chosen = device.choose(config.device, unet_parameters=card.unet_parameters, half_vae=True)
    if config.precision != "auto":
        dtype = config.precision
    elif chosen.device.startswith("cuda"):
        dtype = "bfloat16" if device.multiplies_bfloat16(chosen.device) else "float32"
    else:
        dtype = chosen.dtype if chosen.device == "cpu" else "float32"
    kept = "float32" if config.method == "full" else dtype
    return Placement(chosen.device, kept, "float32"), getattr(torch, dtype)
