"""Trying a model out: one call of its U-Net tells whether it predicts the noise or v."""

from __future__ import annotations

import torch

from ..machine.device import Placement
from .components import Components

SIDE = 16  # of the latents; a thousand numbers are enough to compare
LIKE_NOISE = 0.5


def predicts(components: Components, placement: Placement) -> str:
    """Return "epsilon" or "v_prediction", or "" when the call gives nothing to go by.

    At the last timestep the input is nearly pure noise. A model of the noise gives it back (correlation near 1); one
    of v = alpha * noise - sigma * x0 (Salimans & Ho 2022, arXiv:2202.00512) gives nearly -x0 there: below 0.2.
    """
    unet, encoder, tokenizer = (components[name] for name in ("unet", "text_encoder", "tokenizer"))
    device = torch.device(placement.device)
    moved = (unet, encoder) if placement.offload == "model" else ()
    for network in moved:
        network.to(device)
    try:
        ids = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
        noise = torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        x = noise
        if unet.config.in_channels == 9:  # of inpainting: everything is to be drawn, of nothing
            x = torch.cat([noise, torch.ones_like(noise[:, :1]), torch.zeros_like(noise)], 1)
        with torch.inference_mode():
            words = encoder(ids.to(device))[0]
            last = torch.tensor(components["scheduler"].config.num_train_timesteps - 1, device=device)
            output = unet(x.to(device, unet.dtype), last, encoder_hidden_states=words.to(unet.dtype), return_dict=False)
    finally:
        for network in moved:
            network.to("cpu")
    likeness = torch.corrcoef(torch.stack([noise.flatten(), output[0].float().cpu().flatten()]))[0, 1].item()
    if likeness != likeness:  # not a number: a constant output
        return ""
    return "epsilon" if likeness > LIKE_NOISE else "v_prediction"
