"""Run the text encoders ourselves.

The stock pipelines apply clip_skip to the positive prompt only, count it from 0, and fail with it on recent
transformers. Without clip_skip the result equals theirs bit for bit (a test compares).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ..errors import RequestError
from ..families import Family


@dataclass(frozen=True)
class Conditioning:
    """What the U-Net is told. With guidance the unconditional half comes first.

    embeds: (1 or 2, tokens, width). pooled: (1 or 2, width) or None. guided: whether there are two halves.
    """

    embeds: torch.Tensor
    pooled: torch.Tensor | None
    guided: bool

    def for_batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Repeat each half `size` times: (halves * size, tokens, width) and (halves * size, width)."""
        pooled = None if self.pooled is None else self.pooled.repeat_interleave(size, 0)
        return self.embeds.repeat_interleave(size, 0), pooled


def embed(pipe: Any, family: Family, prompt: str, negative_prompt: str, *, clip_skip: int = 1,
          guided: bool = True) -> Conditioning:
    """Embed a prompt and, when guided, its negative.

    clip_skip: 1 reads the last layer, 2 the last but one, as AUTOMATIC1111 counts; both prompts alike.
    Raises RequestError when the encoder has fewer layers.
    """
    with torch.inference_mode():
        embeds, pooled = _encode(pipe, family, prompt, clip_skip)
        if not guided:
            return Conditioning(embeds, pooled, False)
        if not negative_prompt and getattr(pipe.config, "force_zeros_for_empty_prompt", False):
            negative = torch.zeros_like(embeds), torch.zeros_like(pooled)
        else:
            negative = _encode(pipe, family, negative_prompt, clip_skip)
        return Conditioning(torch.cat([negative[0], embeds]),
                            None if pooled is None else torch.cat([negative[1], pooled]), True)


def _encode(pipe: Any, family: Family, text: str, clip_skip: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    states, pooled = [], None
    for tokenizer_name, encoder_name in family.text_encoders:
        tokenizer, encoder = getattr(pipe, tokenizer_name), getattr(pipe, encoder_name)
        ids = tokenizer(text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
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
