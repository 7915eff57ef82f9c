"""The loss of pictures under the model, from a batch: one forward pass."""

from __future__ import annotations

import torch
from torch import Tensor

from ...diffusion import losses
from ...diffusion.noise_level import Prediction, add_noise, alpha_and_sigma
from ..request import TrainLora
from .base_model import Base
from .batches import Batch
from .text import encode

MIN_SNR_GAMMA = 5.0


def errors(base: Base, config: TrainLora, batch: Batch) -> Tensor:
    """Weighed error of each picture: (b,) float32. Pictures of the regularisation set weigh as themselves here."""
    abar = base.alphas_cumprod.to(batch.t.device)[batch.t]
    alpha, sigma = alpha_and_sigma(abar, batch.x0)
    x_t = add_noise(batch.x0, batch.noise, alpha, sigma)
    wanted = Prediction(x_t, batch.x0, batch.noise, alpha, sigma).form(base.prediction_type)
    dtype = base.unet.dtype
    with torch.autocast(batch.t.device.type, base.autocast, enabled=base.autocast != torch.float32):
        embeds, pooled = batch.embeds, batch.pooled
        if embeds is None:
            embeds, pooled = encode(base.components, base.family, batch.texts, config.clip_skip)
        added = {}
        if base.family.pooled is not None:
            added["added_cond_kwargs"] = {"text_embeds": pooled.to(dtype), "time_ids": batch.time_ids}
        output = base.unet(x_t.to(dtype), batch.t, encoder_hidden_states=embeds.to(dtype), **added,
                           return_dict=False)[0]
    error = losses.squared_error(output, wanted, batch.mask)
    level = abar.sqrt(), (1 - abar).sqrt()
    if config.debiased:
        return error * losses.debiased_weight(*level, base.prediction_type)
    gamma = config.min_snr_gamma
    if gamma is None:
        # Under it a velocity model would hardly learn at high noise, where background and brightness are decided.
        gamma = MIN_SNR_GAMMA if base.prediction_type == "epsilon" else 0
    return error * losses.min_snr_weight(*level, base.prediction_type, gamma) if gamma else error
