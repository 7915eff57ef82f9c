"""From pictures to the numbers of an update.

Everything random in an update follows from (seed, step) and is drawn picture by picture, so it is the same however
the update is cut into micro-batches or shared out among processes, and a run that goes on needs no generator's state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from ...diffusion.losses import offset_noise
from ...images.geometry import Box, Size
from ..dataset import captions
from ..dataset.buckets import bucket_of, crop_variants, order
from ..dataset.picture import Picture
from ..request import TrainLora
from .base_model import Base
from .caches import Embeddings, Latents, TensorCache
from .room import Room

HELD_OUT_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the noise schedule


@dataclass(frozen=True)
class Example:
    """A picture with everything a run may show of it. boxes: crops; texts: captions, the dropped one aside."""

    picture: Picture
    bucket: Size
    boxes: tuple[Box, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Draw:
    """A picture in an update, with its random numbers. noise, posterior: (c, h, w)."""

    example: Example
    box: Box
    flip: bool
    text: str
    t: int
    noise: Tensor
    posterior: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.noise.shape)


@dataclass(frozen=True)
class Batch:
    """Pictures of one size. x0, noise: (b, c, h, w) float32; t: (b,); weights: (b,); mask: (b, 1, h, w) or None.

    embeds, pooled: cached embeddings, None when the text encoder is trained. time_ids: (b, 6).
    """

    x0: Tensor
    noise: Tensor
    t: Tensor
    weights: Tensor
    mask: Tensor | None
    texts: tuple[str, ...]
    embeds: Tensor | None
    pooled: Tensor | None
    time_ids: Tensor


def seed_of(*facts: object) -> int:
    """A 63-bit seed that follows from facts."""
    return int.from_bytes(hashlib.sha256(repr(facts).encode()).digest()[:8], "big") >> 1


def plan(pictures: Sequence[Picture], config: TrainLora, size_step: int) -> list[Example]:
    """Choose bucket, crops and captions of each picture."""
    examples = []
    for picture in pictures:
        size = picture.width, picture.height
        bucket = bucket_of(size, config.resolution, size_step, buckets=config.buckets)
        # Regularisation pictures show what the words meant before: the trigger must not be among them.
        texts = picture.captions or ("",)
        if not picture.is_prior:
            texts = captions.all_variants(picture.captions, config, picture.digest)
        examples.append(Example(picture, bucket, crop_variants(size, bucket, config.crop), texts))
    return examples


class Examples:
    """The pictures of a run, trained on and held out, encoded once."""

    def __init__(self, trained: Sequence[Example], held: Sequence[Example], base: Base, config: TrainLora,
                 cache: TensorCache):
        self.trained, self.held = list(trained), list(held)
        self._base, self._config = base, config
        self.room = Room(base)
        self._latents = Latents(base, cache, self.room)
        self._embeddings = Embeddings(base, cache, config.clip_skip, self.room)
        self._text_trained = config.text_encoder != "off" and config.method == "lora"

    def prepare(self) -> Iterator[tuple[int, int]]:
        """Encode every picture and caption that will be asked for; yields (done, of) after each picture."""
        everything = [*self.trained, *self.held]
        if not self._text_trained:
            self._embeddings.get("")
        for done, example in enumerate(everything, 1):
            for box in example.boxes:
                for flip in (False, True) if self._config.flip else (False,):
                    self._latents.get(example.picture, box, example.bucket, flip)
            for text in () if self._text_trained else example.texts:
                self._embeddings.get(text)
            yield done, len(everything)

    def order(self, update_size: int, first: int) -> Iterator[list[int]]:
        """Updates from number `first` on, as indices into `trained`: update_size pictures, and as many of the
        regularisation pictures where there are any."""
        own = [i for i, one in enumerate(self.trained) if not one.picture.is_prior]
        prior = [i for i, one in enumerate(self.trained) if one.picture.is_prior]
        seed, repeats = self._config.seed, [one.picture.repeats for one in self.trained]
        main = order([self.trained[i].bucket for i in own], update_size, seed,
                     [self._config.repeats * repeats[i] for i in own])
        side = order([self.trained[i].bucket for i in prior], update_size, seed + 1, [repeats[i] for i in prior])
        both = ([own[i] for i in update] + [prior[i] for i in (next(side) if prior else ())] for update in main)
        return islice(both, first, None)

    def draw(self, indices: Sequence[int], step: int, detour: int) -> list[Draw]:
        """The random numbers of an update's pictures. detour: other numbers for the same step, after a rollback."""
        generator = torch.Generator().manual_seed(seed_of(self._config.seed, "draw", step, detour))
        timesteps, count = len(self._base.alphas_cumprod), len(indices)
        # Spread evenly over the noise levels: the same mean as independent ones, with less chance in it.
        times = (torch.rand((), generator=generator) + torch.arange(count) / count) % 1 * timesteps
        return [self._draw(self.trained[index], min(int(t), timesteps - 1), generator)
                for index, t in zip(indices, times, strict=True)]

    def held_out(self) -> list[Draw]:
        """Every held-out picture at the same few timesteps with the same noise each time; no chance is left in it."""
        last = len(self._base.alphas_cumprod) - 1
        draws = []
        for example in self.held:
            generator = torch.Generator().manual_seed(seed_of(self._config.seed, "held out", example.picture.digest))
            for share in HELD_OUT_TIMES:
                noise = torch.randn(self._shape(example), generator=generator)
                draws.append(Draw(example, example.boxes[0], False, example.texts[0], round(share * last), noise,
                                  torch.zeros_like(noise)))
        return draws

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """Bring draws of one size onto the device."""
        config, device = self._config, self._base.device
        entries = [self._latents.get(d.example.picture, d.box, d.example.bucket, d.flip) for d in draws]
        x0 = torch.stack([e["mean"] + e["std"] * d.posterior for e, d in zip(entries, draws, strict=True)])
        mask = None
        if config.masked and any("mask" in entry for entry in entries):
            mask = torch.stack([e["mask"] if "mask" in e else torch.ones_like(e["mean"][:1]) for e in entries])
        texts = tuple(draw.text for draw in draws)
        embeds, pooled = (None, None) if self._text_trained else self._embeddings.batch(texts)
        move = {"device": device, "non_blocking": True}
        return Batch(
            x0=x0.to(**move), noise=torch.stack([draw.noise for draw in draws]).to(**move),
            t=torch.tensor([draw.t for draw in draws]).to(**move),
            weights=torch.tensor([draw.example.picture.weight for draw in draws]).to(**move),
            mask=None if mask is None else mask.to(**move), texts=texts,
            embeds=None if embeds is None else embeds.to(**move),
            pooled=None if pooled is None else pooled.to(**move),
            time_ids=torch.tensor([_time_ids(draw) for draw in draws], dtype=torch.float32).to(**move))

    def _draw(self, example: Example, t: int, generator: torch.Generator) -> Draw:
        config = self._config
        flip, crop, text, drop = torch.rand(4, generator=generator).tolist()
        shape = self._shape(example)
        posterior, noise = torch.randn((2, *shape), generator=generator)
        shift = torch.randn(shape[0], 1, 1, generator=generator)
        if config.noise_offset:
            noise = offset_noise(noise, shift, config.noise_offset)
        chosen = "" if drop < config.caption_dropout else example.texts[int(text * len(example.texts))]
        return Draw(example, example.boxes[int(crop * len(example.boxes))], config.flip and flip < 0.5, chosen, t,
                    noise, posterior)

    def _shape(self, example: Example) -> tuple[int, int, int]:
        width, height = (side // self._base.latent_px for side in example.bucket)
        return self._base.vae.config.latent_channels, height, width


def by_shape(draws: Sequence[Draw], micro_batch: int) -> Iterator[list[Draw]]:
    """Cut an update into parts of one size each, `micro_batch` pictures at most."""
    groups: dict[tuple[int, ...], list[Draw]] = {}
    for draw in draws:
        groups.setdefault(draw.shape, []).append(draw)
    for members in groups.values():
        for i in range(0, len(members), micro_batch):
            yield members[i : i + micro_batch]


def _time_ids(draw: Draw) -> tuple[int, ...]:
    """SDXL's size conditioning: original size, crop's corner in the resized picture, target size, each (h, w).

    Podell et al. 2023 (arXiv:2307.01952), section 2.2.
    """
    picture, (width, height) = draw.example.picture, draw.example.bucket
    scale = width / draw.box.width
    return (picture.height, picture.width, round(draw.box.top * scale), round(draw.box.left * scale), height, width)
