"""Run the text encoders ourselves: weights, chunks and embeddings by name, at every step what the plan says.

The stock pipelines apply clip_skip to the positive prompt only, count it from 0, and fail with it on recent
transformers. A prompt of one chunk without syntax and clip_skip equals theirs bit for bit (a test compares).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..families import Family
from .chunks import CHUNK, COMMA, MAX_CHUNKS, Chunk, chunked
from .encoders import encode_ids
from .schedule import Emphasis, Plan, Scene, Sections, plan

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from transformers import PreTrainedTokenizerBase

NO_MEAN = 0.005  # of the spread; a mean below it is chance (CLIP ViT-L/14 has about 0.1)

Vectors = Mapping[str, Mapping[str, torch.Tensor]]  # name -> text encoder's component name -> (n, width)


@dataclass(frozen=True)
class Conditioning:
    """What the U-Net is told at a step. With guidance the unconditional row comes first.

    embeds: (rows, tokens, width). pooled: (rows, width) or None. weights: of the prompts after the unconditional row;
    empty when there is none, and then one row is all.
    """

    embeds: torch.Tensor
    pooled: torch.Tensor | None
    weights: tuple[float, ...] = ()

    @property
    def rows(self) -> int:
        return self.embeds.shape[0]

    def at(self, call: int) -> Conditioning:
        """It holds at every model call."""
        return self

    def for_batch(self, size: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Repeat each row `size` times: (rows * size, tokens, width) and (rows * size, width)."""
        pooled = None if self.pooled is None else self.pooled.repeat_interleave(size, 0)
        return self.embeds.repeat_interleave(size, 0), pooled


def embed(pipe: DiffusionPipeline, family: Family, prompt: str, negative_prompt: str, *, clip_skip: int = 1,
          guided: bool = True) -> Conditioning:
    """Embed a prompt that does not change with the steps and, when guided, its negative.

    clip_skip: 1 reads the last layer, 2 the last but one, as AUTOMATIC1111 counts; both prompts alike.
    Raises RequestError when the encoder has fewer layers.
    """
    embedder = Embedder(pipe, family, clip_skip=clip_skip)
    return Conditionings(embedder, plan(prompt, negative_prompt, 1), guided=guided).at(0)


class Conditionings:
    """The conditioning of every call of a plan. Equal scenes are one object, so a caller can tell a change by `is`.

    notices: what was not taken as typed, or not read.
    """

    def __init__(self, embedder: Embedder, plan: Plan, *, guided: bool):
        self._plan = plan
        self._made: dict[Scene, Conditioning] = {}
        with torch.inference_mode():
            for scene in dict.fromkeys(plan.scenes):
                self._made[scene] = embedder.condition(scene, plan.emphasis, guided=guided)
        read = {text for scene in plan.scenes for text in (scene.negative, *(text for text, _ in scene.prompts))}
        cut = f"The prompt is longer than {MAX_CHUNKS * CHUNK} tokens, so its end was not read."
        self.notices = plan.notices if read.isdisjoint(embedder.cut) else (*plan.notices, cut)

    def at(self, call: int) -> Conditioning:
        """The conditioning of a model call, counted from 0."""
        return self._made[self._plan.at(call)]


class Embedder:
    """Embeds text with a pipeline's encoders and remembers what it has embedded. Lives as long as a run.

    vectors: embeddings (textual inversion) that stand for their bare name in the text. cut: texts longer than
    MAX_CHUNKS, whose end was not read.
    """

    def __init__(self, pipe: DiffusionPipeline, family: Family, *, clip_skip: int = 1, vectors: Vectors | None = None):
        self._pipe, self._family, self._clip_skip = pipe, family, clip_skip
        self._vectors = vectors or {}
        self._states: dict[tuple[str, Chunk], tuple[torch.Tensor, torch.Tensor]] = {}
        self._texts: dict[tuple[Sections, Emphasis], tuple[torch.Tensor, torch.Tensor | None]] = {}
        self.cut: set[Sections] = set()

    def condition(self, scene: Scene, emphasis: Emphasis, *, guided: bool) -> Conditioning:
        """Embed a scene. Rows of fewer chunks than the longest are filled up with empty ones."""
        prompts = [self.text(sections, emphasis) for sections, _ in scene.prompts]
        if not guided:
            embeds, pooled = prompts[0]
            return Conditioning(embeds, pooled)
        zeros = not any(scene.negative) and getattr(self._pipe.config, "force_zeros_for_empty_prompt", False)
        rows = [prompts[0] if zeros else self.text(scene.negative, emphasis), *prompts]
        longest = max(embeds.shape[1] for embeds, _ in rows)
        embeds = torch.cat([self._filled(embeds, longest, emphasis) for embeds, _ in rows])
        pooled = None if self._family.pooled is None else torch.cat([pooled for _, pooled in rows])
        if zeros:
            embeds[0], pooled[0] = 0, 0
        return Conditioning(embeds, pooled, tuple(weight for _, weight in scene.prompts))

    def text(self, sections: Sections, emphasis: Emphasis) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(1, tokens, width), the encoders' states side by side, and the first chunk's pooled (1, width) or None."""
        key = sections, emphasis
        if key not in self._texts:
            self._texts[key] = self._text(sections, emphasis)
        return self._texts[key]

    def _text(self, sections: Sections, emphasis: Emphasis) -> tuple[torch.Tensor, torch.Tensor | None]:
        sides, pooled = [], None
        for tokenizer_name, encoder_name in self._family.text_encoders:
            chunks = self._chunks(sections, getattr(self._pipe, tokenizer_name), encoder_name)
            states = [self._chunk(tokenizer_name, encoder_name, chunk) for chunk in chunks]
            if encoder_name == self._family.pooled:
                pooled = states[0][1]
            weighted = [weigh(state, chunk.weights, emphasis)
                        for (state, _), chunk in zip(states, chunks, strict=True)]
            sides.append(torch.cat(weighted, 1))
        return torch.cat(sides, -1), pooled

    def _filled(self, embeds: torch.Tensor, tokens: int, emphasis: Emphasis) -> torch.Tensor:
        if embeds.shape[1] == tokens:
            return embeds
        empty, _ = self.text(((),), emphasis)
        return torch.cat([embeds, empty.repeat(1, (tokens - embeds.shape[1]) // empty.shape[1], 1)], 1)

    def _chunks(self, sections: Sections, tokenizer: PreTrainedTokenizerBase, encoder_name: str) -> tuple[Chunk, ...]:
        def encode(text: str) -> list[int]:
            return tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids

        names = {name: len(sides[encoder_name]) for name, sides in self._vectors.items() if encoder_name in sides}
        comma = tokenizer.convert_tokens_to_ids(COMMA)
        chunks = chunked(sections, encode, None if comma == tokenizer.unk_token_id else comma,
                         size=tokenizer.model_max_length - 2, names=names)
        if len(chunks) > MAX_CHUNKS:
            self.cut.add(sections)
        return chunks[:MAX_CHUNKS]

    def _chunk(self, tokenizer_name: str, encoder_name: str, chunk: Chunk) -> tuple[torch.Tensor, torch.Tensor]:
        """One chunk's unweighted states (1, tokens, width) and the encoder's pooled output."""
        key = encoder_name, Chunk(chunk.ids, (), chunk.vectors)
        if key not in self._states:
            tokenizer, encoder = getattr(self._pipe, tokenizer_name), getattr(self._pipe, encoder_name)
            size = tokenizer.model_max_length
            ids = [tokenizer.bos_token_id, *chunk.ids, tokenizer.eos_token_id]
            ids += [tokenizer.pad_token_id] * (size - len(ids))
            rows = {place + 1: self._vectors[name][encoder_name] for place, name in chunk.vectors}
            with _replaced(encoder.get_input_embeddings(), rows):
                self._states[key] = encode_ids(encoder, torch.tensor([ids], device=encoder.device), self._family,
                                               self._clip_skip)
        return self._states[key]


def weigh(states: torch.Tensor, weights: tuple[float, ...], emphasis: Emphasis) -> torch.Tensor:
    """Multiply each token's state by its weight; "Original" then restores the mean over the whole chunk.

    states: (1, tokens, width). weights: of the tokens after the first mark; the others have 1. AUTOMATIC1111's rule,
    except that a mean of nearly zero, which an encoder's final norm may leave, is not restored: the factor would be
    the quotient of two rounding errors.
    """
    if emphasis in ("Ignore", "None") or all(weight == 1 for weight in weights):
        return states
    factors = states.new_ones(states.shape[1], dtype=torch.float32)
    factors[1:1 + len(weights)] = torch.tensor(weights, device=states.device)
    before = states.float()
    after = before * factors[:, None]
    if emphasis == "Original" and bool(before.mean().abs() > NO_MEAN * before.std()):
        ratio = before.mean() / after.mean()
        after = after * ratio if bool(torch.isfinite(ratio)) else after
    return after.to(states.dtype)


@contextmanager
def _replaced(embedding: torch.nn.Module, rows: Mapping[int, torch.Tensor]) -> Iterator[None]:
    """Put vectors in the place of looked-up token embeddings. rows: first position -> (n, width)."""
    if not rows:
        yield
        return

    def put(module: torch.nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        for first, vectors in rows.items():
            output[:, first:first + len(vectors)] = vectors.to(output)
        return output

    handle = embedding.register_forward_hook(put)
    try:
        yield
    finally:
        handle.remove()
