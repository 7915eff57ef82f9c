"""Run one text encoder on token ids: the one place that knows which layer `clip_skip` reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import RequestError
from ..families import Family

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def encode_ids(encoder: PreTrainedModel, ids: torch.Tensor, family: Family,
               clip_skip: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States (b, tokens, width) of the layer that clip_skip names, and the encoder's first output.

    ids: (b, tokens). The first output is the pooled embedding (b, width) of encoders with a projection. clip_skip: 1
    reads the last layer, 2 the last but one. Gradients flow. Raises RequestError when the encoder has fewer layers.
    """
    last = clip_skip == 1 and family.final_norm
    out = encoder(ids, output_hidden_states=not last)
    if last:
        return out[0], out[0]
    depth = clip_skip + family.skip_offset
    if depth >= len(out.hidden_states):
        raise RequestError(f"Clip skip: {clip_skip} is not possible. This model's text encoder has "
                           f"{len(out.hidden_states) - 1} layers.", "clip_skip")
    states = out.hidden_states[-depth]
    if family.final_norm:
        # transformers 5.6 dropped the .text_model level.
        states = getattr(encoder, "text_model", encoder).final_layer_norm(states)
    return states, out[0]
