"""The autoencoder: 128x128 pictures <-> 16x16 latents (Rombach et al. 2022, section 3.1, without the adversary).

Two stages on one state: `train` moves encoder and decoder; after `freeze` the latents are final (they are cached, and
the UNet learns them) and only the decoder goes on improving.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import data, folder
from .config import Config
from .training import Draw, Trainer, autocast, load_state, pick_device, save_state

TAUGHT_SHARE = 0.6     # of the pictures come from the concepts that the UNet learns, the rest from all others
HELD_OUT_FROM = 280    # one in twenty of the concepts from here on are kept for measuring


def to_pixels(pictures: np.ndarray) -> Tensor:
    """(b, h, w, 3) uint8 -> (b, 3, h, w) float32 in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def held_out_concepts(concepts: list[data.Concept]) -> list[int]:
    """Indices of drawings that the autoencoder never sees."""
    return [i for i, c in enumerate(concepts) if i >= HELD_OUT_FROM
            and hashlib.sha256(c.code.encode()).digest()[0] % 20 == 0]


def batch(drawings: np.ndarray, allowed: tuple[list[int], list[int]], draw: Draw, size: int, px: int,
          crop_px: int | None = None) -> Tensor:
    """Pictures on plain or fading backgrounds, flipped half of the time: (b, 3, px, px) in [-1, 1].

    crop_px: cut out a square of this side at a random place.
    """
    pictures = []
    for _ in range(size):
        rng = draw.py
        i = rng.choice(allowed[0] if rng.random() < TAUGHT_SHARE else allowed[1])
        drawing = np.asarray(drawings[i, rng.randrange(len(data.STYLES))])
        colour = rng.choice(list(data.COLOURS.values())) if rng.random() < 0.8 else [rng.randrange(256) for _ in "rgb"]
        picture = data.compose(drawing, colour, rng, px, scale=(0.6, 1.0), gradients=0.2)
        if crop_px:
            y, x = rng.randint(0, px - crop_px), rng.randint(0, px - crop_px)
            picture = picture[y:y + crop_px, x:x + crop_px]
        pictures.append(picture[:, ::-1] if rng.random() < 0.5 else picture)
    return to_pixels(np.ascontiguousarray(np.stack(pictures)))


def reconstruction_loss(y: Tensor, x: Tensor) -> Tensor:
    """L1 plus squared error plus L1 of the local differences on three scales, which keeps edges sharp."""
    loss = (y - x).abs().mean() + (y - x).square().mean()
    for _ in range(3):
        for axis in (2, 3):
            loss = loss + 0.5 * (y.diff(dim=axis) - x.diff(dim=axis)).abs().mean()
        y, x = F.avg_pool2d(y, 2), F.avg_pool2d(x, 2)
    return loss


def key(config: Config) -> str:
    return json.dumps([config.image_px, config.vae_channels, config.vae_layers, config.vae_groups])


def train(config: Config, cache: Path, drawings: np.ndarray, concepts: list[data.Concept], *, batch_size: int = 16,
          log=print, **budget):
    """Train the autoencoder; where its encoder is frozen, only the decoder. Returns the averaged model."""
    device = pick_device()
    torch.manual_seed(config.seed)
    model = folder.vae(config).to(device)
    frozen = frozen_path(cache).exists()
    if frozen:
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)
    out = set(held_out_concepts(concepts))
    taught = list(range(min(config.concepts, len(concepts))))
    others = [i for i in range(len(concepts)) if i not in out]
    test = batch(drawings, (sorted(out), sorted(out)) if out else (taught, taught), Draw(99, 0), 48, config.image_px)

    def loss_of(model, draw: Draw, size: int) -> Tensor:
        # Quarter pictures make steps four times as cheap; whole ones at the end settle the norms at their true size.
        whole = trainer.progress > 0.8
        x = batch(drawings, (taught, others), draw, max(1, size // 2) if whole else size, config.image_px,
                  None if whole else config.image_px // 2).to(device)
        with autocast(device):
            with torch.set_grad_enabled(not frozen):
                posterior = model.encode(x).latent_dist
                z = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=draw.torch,
                                                                 device=device)
            y = model.decode(z).sample
        loss = reconstruction_loss(y.float(), x)
        return loss if frozen else loss + 1e-6 * posterior.kl().float().mean()

    trainer = Trainer(cache / "vae.state", model, key(config), batch=batch_size, lr=2e-3, ema=0.998,
                      seed=config.seed, log=log, **budget)
    return trainer.run(loss_of, lambda: f"held-out PSNR {psnr(trainer.averaged, test.to(device)):.2f} dB", 250)


@torch.no_grad()
def psnr(model, x: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB over pictures (b, 3, h, w) in [-1, 1], through 8-bit values."""
    y = torch.cat([model.decode(model.encode(part).latent_dist.mean).sample for part in x.split(16)])
    y = y.float().clamp(-1, 1).add(1).mul(127.5).round().div(127.5).sub(1)
    return (10 * torch.log10(4 / (y - x).square().flatten(1).mean(1).clamp_min(1e-9))).mean().item()


# ------------------------------------------------------------------------------------------------------------ latents
def frozen_path(cache: Path) -> Path:
    return cache / "latents.state"


def load(config: Config, cache: Path):
    """The averaged autoencoder with its frozen encoder and scaling_factor, where there is one."""
    state = load_state(cache / "vae.state")
    if state is None or state["key"] != key(config):
        raise ValueError("no autoencoder of these sizes in the cache: run --stage vae first")
    model = folder.vae(config).requires_grad_(False).eval()
    model.load_state_dict(state["averaged"])
    if frozen_path(cache).exists() and (frozen := load_state(frozen_path(cache))) is not None:
        model.load_state_dict(frozen["encoder"], strict=False)
        model.register_to_config(scaling_factor=frozen["scaling_factor"])
    return model


@torch.no_grad()
def freeze(config: Config, cache: Path, drawings: np.ndarray, concepts: list[data.Concept], log=print) -> dict:
    """Fix the encoder and cache the latents of every (concept, style, colour, variant) that is taught.

    All styles of a thing stand at the same place in the same size, on the same background, so that between two of
    them nothing but the hand differs (unet.style_contrast tells them apart by that).

    Returns {"latents": (concepts, styles, colours, variants, 4, 16, 16) float16 with unit variance,
    "scaling_factor", ...}; a second call reads the cache, a damaged one or another config's is made again. The
    encoder inside the file stays as it is when only the data change, so a trained UNet goes on fitting it.
    """
    codes = [c.code for c in concepts[:config.concepts]]
    stamp = json.dumps([key(config), config.concepts, config.variants, data.SCALE, codes,
                        "styles in one place"])
    kept = load_state(frozen_path(cache), log)
    if kept is not None and kept["stamp"] == stamp:
        return kept
    model = load(config, cache).to(device := pick_device())
    styles, colours = range(len(data.STYLES)), list(data.COLOURS.values())
    latents = torch.empty(len(codes), len(data.STYLES), len(colours), config.variants, config.latent_channels,
                          config.latent_px, config.latent_px, dtype=torch.float16)
    grounds = [colour for colour in colours for _ in range(config.variants)]
    for i in range(len(codes)):
        pictures = np.stack([
            data.compose(np.asarray(drawings[i, s]), colour, Draw(config.seed + 1, i * len(grounds) + place).py,
                         config.image_px)
            for s in styles for place, colour in enumerate(grounds)])
        with autocast(device):
            parts = [model.encode(part.to(device)).latent_dist.mean.float() for part in to_pixels(pictures).split(8)]
        latents[i] = torch.cat(parts).view(latents.shape[1:]).half().cpu()
        if i % 40 == 39:
            log(f"latents of {i + 1} of {len(codes)} concepts")
    factor = kept["scaling_factor"] if kept else 1 / latents.float().std().item()
    encoder = {k: v.cpu() for k, v in model.state_dict().items() if k.startswith(("encoder.", "quant_conv."))}
    frozen = {"stamp": stamp, "latents": (latents.float() * factor).half(), "scaling_factor": factor,
              "encoder": encoder}
    save_state(frozen_path(cache), frozen)
    log(f"latents: {tuple(latents.shape)}, scaling_factor {factor:.4f}")
    return frozen


