"""What a prompt is to the model: tokens, what falls off the end, and the vectors that the U-Net looks at.

CLIP's text encoder: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision"
(arXiv:2103.00020), sec. 2.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.offload import device_of
from ..prompts.chunks import COMMA, chunked
from ..prompts.schedule import Piece

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Token:
    """piece: as the vocabulary spells it, "</w>" at the end of a word. kind: "start", "text", "end" or "padding"."""

    place: int
    id: int
    piece: str
    kind: str


@dataclass(frozen=True)
class Reading:
    """What an encoder reads of a prompt. tokens: all places, marks and padding included. cut: pieces that fall off."""

    tokens: tuple[Token, ...]
    cut: tuple[str, ...]

    @property
    def pieces(self) -> list[str]:
        """The text's own pieces, without marks and padding."""
        return [token.piece for token in self.tokens if token.kind == "text"]


def read(tokenizer: PreTrainedTokenizerBase, prompt: str) -> Reading:
    """Split a prompt as one pass of the text encoder gets it, at most model_max_length tokens with the two marks."""
    limit = tokenizer.model_max_length
    ids = tokenizer(prompt, add_special_tokens=False, truncation=False, verbose=False).input_ids
    kept, cut = ids[:limit - 2], ids[limit - 2:]
    kinds = ["start", *["text"] * len(kept), "end"]
    whole = [tokenizer.bos_token_id, *kept, tokenizer.eos_token_id]
    padding = limit - len(whole)
    whole += [tokenizer.pad_token_id] * padding
    kinds += ["padding"] * padding
    pieces = tokenizer.convert_ids_to_tokens(whole)
    return Reading(tuple(Token(*one) for one in zip(range(limit), whole, pieces, kinds, strict=True)),
                   tuple(tokenizer.convert_ids_to_tokens(cut)))


@dataclass(frozen=True)
class Vectors:
    """A prompt as vectors. states: (places, width), what the U-Net sees. pooled: (width,), that of the end mark."""

    prompt: str
    states: Tensor
    pooled: Tensor

    @property
    def norms(self) -> Tensor:
        """Length of each place's vector: (places,). The start mark's is by far the longest in CLIP."""
        return self.states.norm(dim=1)


def vectors(tokenizer: PreTrainedTokenizerBase, encoder: PreTrainedModel, prompt: str) -> Vectors:
    """Run the text encoder on one prompt. Its last layer, as Stable Diffusion 1.x reads it."""
    reading = read(tokenizer, prompt)
    ids = torch.tensor([[token.id for token in reading.tokens]], device=device_of(encoder))
    with torch.no_grad():
        states = encoder(ids, output_hidden_states=False)[0]
        if states.ndim == 2:  # an encoder with a projection gives its pooled vector first
            states = encoder(ids, output_hidden_states=True).hidden_states[-1]
    states = states[0].float().cpu()
    return Vectors(prompt, states, states[len(reading.pieces) + 1])


def similarities(prompts: Sequence[Vectors]) -> Tensor:
    """Cosine of the angle between each two prompts' pooled vectors: (n, n). As arXiv:2103.00020, figure 3, does."""
    stacked = F.normalize(torch.stack([one.pooled for one in prompts]), dim=1)
    return stacked @ stacked.T


def chunks(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[list[str]]:
    """The pieces that each pass of the text encoder reads of a long prompt, cut as the app cuts it (plain words)."""
    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids

    comma = tokenizer.convert_tokens_to_ids(COMMA)
    cut = chunked(((Piece(prompt),),), encode, None if comma == tokenizer.unk_token_id else comma,
                  size=tokenizer.model_max_length - 2)
    return [tokenizer.convert_ids_to_tokens(list(chunk.ids)) for chunk in cut]


def joined(pieces: Sequence[str]) -> str:
    """Pieces as a person reads them."""
    return "".join(pieces).replace("</w>", " ").strip()
