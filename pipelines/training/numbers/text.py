"""Run the text encoders on captions, with gradients where they are trained.

Equal to prompts.embed bit for bit for one plain caption (a test compares), so that a LoRA meets the same embeddings
in training and in use.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...families import Family
from ...models.components import Components
from ...prompts.encoders import encode_ids


def encode(components: Components, family: Family, texts: Sequence[str],
           clip_skip: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Embed captions: (b, tokens, width), and the pooled embedding (b, width) of families that have one."""
    states, pooled = [], None
    for tokenizer_name, encoder_name in family.text_encoders:
        tokenizer, encoder = components[tokenizer_name], components[encoder_name]
        ids = tokenizer(list(texts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
                        return_tensors="pt").input_ids.to(encoder.device)
        state, first = encode_ids(encoder, ids, family, clip_skip)
        if encoder_name == family.pooled:
            pooled = first
        states.append(state)
    return torch.cat(states, -1), pooled
