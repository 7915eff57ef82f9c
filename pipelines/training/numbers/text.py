"""Run the text encoders on captions, with gradients where they are trained.

Equal to prompts.embed bit for bit for one plain caption (a test compares), so that a LoRA meets the same embeddings
in training and in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ...errors import RequestError
from ...families import Family


def encode(components: dict[str, Any], family: Family, texts: Sequence[str],
           clip_skip: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Embed captions: (b, tokens, width), and the pooled embedding (b, width) of families that have one."""
    states, pooled = [], None
    for tokenizer_name, encoder_name in family.text_encoders:
        tokenizer, encoder = components[tokenizer_name], components[encoder_name]
        ids = tokenizer(list(texts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
                        return_tensors="pt").input_ids.to(encoder.device)
        last = clip_skip == 1 and family.final_norm
        out = encoder(ids, output_hidden_states=not last)
        if encoder_name == family.pooled:
            pooled = out[0]
        if last:
            states.append(out[0])
            continue
        depth = clip_skip + family.skip_offset
        if depth >= len(out.hidden_states):
            raise RequestError(f"Clip skip: {clip_skip} is not possible. This model's text encoder has "
                               f"{len(out.hidden_states) - 1} layers.", "clip_skip")
        state = out.hidden_states[-depth]
        if family.final_norm:
            # transformers 5.6 dropped the .text_model level.
            state = getattr(encoder, "text_model", encoder).final_layer_norm(state)
        states.append(state)
    return torch.cat(states, -1), pooled
