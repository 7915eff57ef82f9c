"""The text encoder, taught by contrast with a small image tower (CLIP; Radford et al. 2021), then frozen.

A caption may fit several pictures of a batch ("a frog" fits every frog), so each row's target is spread evenly over
all that fit, as in supervised contrastive learning (Khosla et al. 2020, equation 2).
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer

from . import data, folder
from .config import Config
from .tower import IMAGE_PX, image_tower
from .training import Draw, Trainer, autocast, load_state, pick_device
from .vae import to_pixels

EACH = len(data.STYLES)     # of a concept, a batch holds the drawings of all styles: so they must be told apart
PLAIN = 0.25   # share of captions that name the thing alone; backgrounds are learned soon, things need the practice


class Clip(nn.Module):
    """Two towers into one space: the text encoder of the model, and the image tower."""

    def __init__(self, config: Config, vocabulary_size: int):
        super().__init__()
        self.text = folder.text_encoder(config, vocabulary_size)
        self.text_projection = nn.Linear(config.text_width, config.text_width, bias=False)
        self.image = image_tower(config.text_width)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def embed_text(self, ids: Tensor) -> Tensor:
        """(b, length) token ids -> (b, width), unit length."""
        return F.normalize(self.text_projection(self.text(input_ids=ids).pooler_output).float(), dim=-1)

    def embed_image(self, pixels: Tensor) -> Tensor:
        """(b, 3, 64, 64) in [-1, 1] -> (b, width), unit length."""
        return F.normalize(self.image(pixels).float(), dim=-1)


def tokenizer(config: Config, cache: Path, concepts: list[data.Concept]) -> CLIPTokenizer:
    """The recipe's own byte pairs, learned once from all names and tags."""
    path = cache / "tokenizer"
    if not (path / "tokenizer_config.json").exists():
        folder.train_tokenizer(path, data.all_texts(concepts), config)
    return CLIPTokenizer.from_pretrained(path)


def fits(captions: list[data.Caption], things: list[tuple[str, str, str]]) -> Tensor:
    """(captions, pictures) bool: is the caption true of the picture (concept, style, colour)?"""
    return torch.tensor([[c.concept in (None, name) and c.style in (None, style) and c.colour in (None, colour)
                          for name, style, colour in things] for c in captions])


def contrastive_loss(text: Tensor, image: Tensor, scale: Tensor, positive: Tensor) -> Tensor:
    """Cross-entropy both ways against targets spread over all that fit. text, image: (b, width), unit length."""
    logits = scale * text @ image.T
    target = positive.float()
    rows = -(target / target.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    columns = -(target / target.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
    return (rows + columns) / 2


def key(config: Config) -> str:
    return json.dumps(["convolutions", config.text_width, config.text_layers, config.text_heads, config.merges])


def train(config: Config, cache: Path, drawings: np.ndarray, concepts: list[data.Concept], *, batch_size: int = 128,
          log=print, **budget) -> Clip:
    """Train both towers on the taught concepts; the log says how often the right name and style are picked."""
    device = pick_device()
    torch.manual_seed(config.seed)
    tokens = tokenizer(config, cache, concepts)
    model = Clip(config, len(tokens)).to(device)
    taught = data.taught(concepts, config.concepts)
    colours = list(data.COLOURS)
    left_out = data.held_out_pairs(taught, config.held_out)

    def sample(draw: Draw, size: int):
        """`size` pictures, a caption for each, and what fits what."""
        rng, pictures, captions, things = draw.py, [], [], []
        for i in rng.sample(range(len(taught)), min(size // EACH, len(taught))):
            for style in data.STYLES:
                if (taught[i].name, style) in left_out:
                    continue
                colour = rng.choice(colours)
                pictures.append(picture(i, style, colour, rng))
                if rng.random() < PLAIN:
                    name = taught[i].name if rng.random() < 0.7 else taught[i].short
                    captions.append(data.Caption(f"a {name}", taught[i].name))
                else:
                    captions.append(data.caption(taught[i], style, colour, rng, empty=0))
                things.append((taught[i].name, style, colour))
        return pixels(pictures), ids([c.text for c in captions]), fits(captions, things).to(device)

    def picture(i: int, style: str, colour: str, rng) -> np.ndarray:
        drawing = np.asarray(drawings[i, data.STYLES.index(style)])[::2, ::2]
        return data.compose(drawing, data.COLOURS[colour], rng, IMAGE_PX)

    def pixels(pictures: list[np.ndarray]) -> Tensor:
        return to_pixels(np.stack(pictures)).to(device)

    def ids(texts: list[str]) -> Tensor:
        return tokens(texts, padding=True, return_tensors="pt").input_ids.to(device)

    def loss_of(model, draw: Draw, size: int) -> Tensor:
        x, words, positive = sample(draw, size)
        with autocast(device):
            text, image = model.embed_text(words), model.embed_image(x)
        return contrastive_loss(text, image, model.log_scale.exp().clamp(max=100), positive)

    rng = Draw(99, 0).py
    shown = [(i, rng.choice(data.STYLES), rng.choice(colours)) for i in range(len(taught))]
    test = pixels([picture(*one, rng) for one in shown])
    names = ids([f"a {c.name}" for c in taught])
    styled = ids([f"a {c.name}, {style} style" for c in taught for style in data.STYLES])
    right = torch.tensor([data.STYLES.index(style) for _, style, _ in shown], device=device)

    @torch.no_grad()
    def report() -> str:
        model = trainer.averaged
        image = model.embed_image(test)
        name = (image @ model.embed_text(names).T).argmax(1) == torch.arange(len(taught), device=device)
        each = model.embed_text(styled).view(len(taught), len(data.STYLES), -1)
        style = (image[:, None] * each).sum(-1).argmax(1) == right
        return f"right name of {len(taught)}: {name.float().mean():.0%}, right style of 4: {style.float().mean():.0%}"

    trainer = Trainer(cache / "clip.state", model, key(config), batch=batch_size, lr=1e-3, ema=0.995,
                      seed=config.seed, warmup=100, log=log, **budget)
    return trainer.run(loss_of, report, 100)


def load(config: Config, cache: Path, concepts: list[data.Concept]) -> tuple[Clip, CLIPTokenizer]:
    tokens = tokenizer(config, cache, concepts)
    state = load_state(cache / "clip.state")
    if state is None or state["key"] != key(config):
        raise ValueError("no text encoder of these sizes in the cache: run --stage clip first")
    model = Clip(config, len(tokens)).requires_grad_(False).eval()
    model.load_state_dict(state["averaged"])
    return model, tokens


def ids(tokens: CLIPTokenizer, captions: list[str]) -> Tensor:
    """What stock pipelines give the text encoder: (b, 77), padded with end tokens and with no mask over them."""
    return tokens(captions, padding="max_length", max_length=tokens.model_max_length, truncation=True,
                  return_tensors="pt").input_ids
