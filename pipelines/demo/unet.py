"""The denoiser: learns to predict v in the autoencoder's latents, given the text encoder's states.

The text encoder, taught by contrast before (clip.py), goes on learning at a small share of the pace (config.text_pace).

v-prediction: Salimans & Ho 2022 (arXiv:2202.00512), appendix D. Classifier-free guidance: Ho & Salimans 2022.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel

from ..diffusion.noise_level import Prediction, add_noise, alpha_and_sigma
from . import clip, data, folder, tower, vae
from .config import Config
from .matching import write_references
from .training import Draw, Trainer, autocast, load_state, pick_device

WATCHED = ("dog face", "red apple", "rocket", "frog", "pizza", "penguin", "sunflower", "automobile")


def v_target(latents: Tensor, noise: Tensor, alphas_cumprod: Tensor) -> tuple[Tensor, Tensor]:
    """Return (x_t, v) for x_t = sqrt(a) x0 + sqrt(1-a) noise and v = sqrt(a) noise - sqrt(1-a) x0.

    latents, noise: (b, 4, h, w). alphas_cumprod: (b,), that of each picture's time.
    """
    alpha, sigma = alpha_and_sigma(alphas_cumprod, latents)
    x_t = add_noise(latents, noise, alpha, sigma)
    return x_t, Prediction(x_t, latents, noise, alpha, sigma).v


def loss_weight(alphas_cumprod: Tensor, gamma: float = 5.0) -> Tensor:
    """Min-SNR for v (Hang et al. 2023, arXiv:2303.09556), shifted by one: (min(snr, gamma) + 1) / (snr + 1).

    That is 1 at high noise, where the text alone decides subject and background, and falls where noise is low.
    """
    snr = alphas_cumprod / (1 - alphas_cumprod)
    return (snr.clamp(max=gamma) + 1) / (snr + 1)


def style_contrast(alphas_cumprod: Tensor, most: float) -> Tensor:
    """Share of the loss that pushes away from a thing's other styles (Stoica et al. 2025, arXiv:2506.05350).

    loss = |out - v|^2 - share |out - v'|^2, with v' of their mean at the same place under the same noise. Its minimum
    puts x0 share / (1 - share) further from that mean than the data are: guidance by style, learned once. `most` at
    pure noise, where style is decided; 0 from where picture and noise are even, so that no detail is overdrawn.
    """
    return most * (1 - 2 * alphas_cumprod).clamp(min=0)


def training_times(count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw times in [0, 1): (count,), three in four of them where thing and style are decided, the rest anywhere.

    The three follow a logit-normal law (Esser et al. 2024, arXiv:2403.03206, section 3.1) with its median at 0.65.
    Both kinds are spread evenly over their law: the same expectation as independent draws, less variance.
    """

    def even(n: int) -> Tensor:
        return (torch.rand((), generator=generator, device=device) + torch.arange(n, device=device) / max(n, 1)) % 1

    anywhere = max(1, count // 4)
    middle = torch.special.ndtri(even(count - anywhere).clamp(1e-4, 1 - 1e-4))
    return torch.cat([even(anywhere), (middle + 0.6).sigmoid()])


def crossed_noise(noise: Tensor, latents: Tensor, start: Tensor, begun: Tensor) -> Tensor:
    """Noise that still holds another picture: what remains of `start` on the way to `latents`.

    Image to image noises a picture to a time, x = sqrt(a) start + sqrt(1-a) noise, and goes on as if that had been
    made of what the prompt says. The noise that DDIM (Song et al. 2021, arXiv:2010.02502, equation 12) then takes x to
    hold, and keeps to the end, is the one returned here. Training on it teaches to leave the old thing for the new;
    as Ning et al. 2023 (arXiv:2301.11706) do for errors that sampling makes by itself.

    noise, latents, start: (b, 4, h, w). begun: (b,), alphas_cumprod of the time at which `start` was noised.
    """
    return noise + (begun / (1 - begun)).sqrt().view(-1, 1, 1, 1) * (start - latents)


def crossed_times(count: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw when image to image began, evenly in strengths 0.4 to 0.85, and a later moment of the same run.

    Returns two (count,) tensors in [0, 1), the second at most the first, and mostly near it: there it is decided.
    """
    begun = 0.4 + 0.45 * torch.rand(count, generator=generator, device=device)
    return begun, begun * torch.rand(count, generator=generator, device=device).sqrt()


class Denoiser(nn.Module):
    """The UNet, and the text encoder that it listens to."""

    def __init__(self, config: Config, text: CLIPTextModel):
        super().__init__()
        self.unet = folder.unet(config)
        self.text = text.requires_grad_(config.text_pace > 0)

    def forward(self, x_t: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        """x_t: (b, 4, h, w). t: (b,). ids: (b, 77) -> v, (b, 4, h, w)."""
        return self.unet(x_t, t, self.text(input_ids=ids).last_hidden_state).sample


def key(config: Config) -> str:
    return json.dumps([config.unet_channels, config.unet_attention, config.unet_layers, config.unet_heads,
                       config.unet_groups, config.text_width, config.text_layers, config.text_heads, config.latent_px])


def train(config: Config, cache: Path, drawings: np.ndarray, concepts: list[data.Concept], *, log=print,
          **budget):
    """Train on cached latents; a sheet of samples of the averaged weights goes beside the log now and then."""
    device = pick_device()
    frozen = vae.freeze(config, cache, drawings, concepts, log)
    latents = frozen["latents"].to(device)
    text_model, tokens = clip.load(config, cache, concepts)
    taught = data.taught(concepts, config.concepts)
    left_out = data.held_out_pairs(taught, config.held_out)
    pairs = [(i, s) for i, c in enumerate(taught) for s, style in enumerate(data.STYLES)
             if (c.name, style) not in left_out]
    others = torch.zeros(len(taught), len(data.STYLES), len(data.STYLES), device=device)
    for i, s in pairs:
        siblings = [z for j, z in pairs if j == i and z != s]
        others[i, s, siblings] = 1 / len(siblings)
    colours = list(data.COLOURS)
    alphas_cumprod = folder.scheduler().alphas_cumprod.to(device)
    times = len(alphas_cumprod)

    torch.manual_seed(config.seed)
    model = Denoiser(config, text_model.text).to(device, memory_format=torch.channels_last)
    if device.type == "cpu":        # plain attention: its backward is twice as fast there as the fused one's
        model.unet.set_attn_processor(AttnProcessor())
    log(f"unet: {sum(p.numel() for p in model.unet.parameters()) / 1e6:.1f} M parameters, {len(taught)} concepts, "
        f"{len(left_out)} pairs held out")

    def loss_of(model, draw: Draw, b: int) -> Tensor:
        rng = draw.py
        at, from_another, captions, styled, crossed = [], [], [], [], []
        for _ in range(b):
            i, s = rng.choice(pairs)
            k, variant = rng.randrange(len(colours)), rng.randrange(config.variants)
            at.append((i, s, k, variant))
            from_another.append((*rng.choice(pairs), rng.randrange(config.variants)))
            said = data.caption(taught[i], data.STYLES[s], colours[k], rng, config.empty_captions)
            captions.append(said.text)
            styled.append(said.style is not None)      # a caption that names none has none to be told from
            crossed.append(bool(said.text) and rng.random() < config.crossed)   # without a text, nothing is to change
        crossed = torch.tensor(crossed, device=device)
        i, s, k, variant = torch.tensor(at, device=device).T
        old, old_style, old_variant = torch.tensor(from_another, device=device).T
        start = latents[old, old_style, k, old_variant].float()        # another thing on the same background,
        apart = (latents[i, s, k].float() - start[:, None]).square().mean((2, 3, 4))
        variant = torch.where(crossed, apart.argmin(1), variant)       # and the new one where it changes least
        hands = latents[i, :, k, variant].float()      # the same thing in the same place by every hand
        x0, other = hands[torch.arange(b, device=device), s], torch.einsum("bs,bschw->bchw", others[i, s], hands)
        begun, later = ((part * times).long() for part in crossed_times(b, draw.torch, device))
        t = (training_times(b, draw.torch, device) * times).long().clamp(max=times - 1)
        t = torch.where(crossed, later, t)
        noise = torch.randn(x0.shape, generator=draw.torch, device=device)
        noise = torch.where(crossed.view(-1, 1, 1, 1), crossed_noise(noise, x0, start, alphas_cumprod[begun]), noise)
        a = alphas_cumprod[t]
        x_t, v = v_target(x0, noise, a)
        push = style_contrast(a, config.contrast) * torch.tensor(styled, device=device)
        with autocast(device):
            out = model(x_t.contiguous(memory_format=torch.channels_last), t, clip.ids(tokens, captions).to(device))
        near, far = ((out.float() - w).square().mean((1, 2, 3)) for w in (v, v_target(other, noise, a)[1]))
        return (loss_weight(a) * (near - push * far)).mean()

    def report() -> str:
        names = [n for n in WATCHED if any(c.name == n for c in taught)] or [c.name for c in taught[:8]]
        prompts = [data.full_caption(n, data.STYLES[i % 4], colours[i % 10]) for i, n in enumerate(names)]
        parts = {"unet": trainer.averaged.unet, "vae": vae.load(config, cache).to(device),
                 "text_encoder": trainer.averaged.text, "scheduler": folder.scheduler()}
        pipe = StableDiffusionPipeline(**parts, tokenizer=tokens, safety_checker=None, feature_extractor=None,
                                       requires_safety_checker=False)
        pipe.set_progress_bar_config(disable=True)
        pictures = pipe(prompts, num_inference_steps=15, guidance_scale=5.0, generator=[
            torch.Generator().manual_seed(i) for i in range(len(prompts))], output_type="np").images
        sheet = np.concatenate(list(pictures), axis=1)
        path = cache / "samples" / f"unet-{trainer.step:06d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((sheet * 255).round().astype(np.uint8)).save(path)
        return f"samples in {path.name}"

    trainer = Trainer(cache / "unet.state", model, key(config), batch=config.batch, lr=config.lr,
                      ema=config.ema, seed=config.seed, warmup=300, log=log,
                      pace=lambda name: config.text_pace if name.startswith("text.") else 1.0, **budget)
    return trainer.run(loss_of, report, 1000)


def export(config: Config, cache: Path, drawings: np.ndarray, concepts: list[data.Concept], out: Path,
           log=print) -> None:
    """Write the averaged weights of all stages as a diffusers folder; three files beside it.

    They are vocabulary.json, references.png and tower.safetensors, the image tower.
    """
    state = load_state(cache / "unet.state")
    if state is None or state["key"] != key(config):
        raise ValueError("no UNet of these sizes in the cache: run --stage unet first")
    text_model, _ = clip.load(config, cache, concepts)
    model = Denoiser(config, text_model.text)
    model.load_state_dict(state["averaged"])
    folder.write_folder(out, {"vae": vae.load(config, cache), "unet": model.unet, "text_encoder": model.text,
                              "scheduler": folder.scheduler()}, cache / "tokenizer")
    tower.write(out.parent / "tower.safetensors", text_model.image, text_model.text_projection)
    taught = data.taught(concepts, config.concepts)
    folder.write_json(out.parent / "vocabulary.json", {
        "concepts": {c.name: {"short": c.short, "tags": list(c.tags), "code": c.code} for c in taught},
        "styles": list(data.STYLES), "colours": {k: list(v) for k, v in data.COLOURS.items()},
        "held_out": sorted(map(list, data.held_out_pairs(taught, config.held_out))),
        "sources": [list(one) for one in (*data.SETS.values(), data.NAMES)],
        "training": {"unet_steps": state["step"], "unet_minutes": round(state["elapsed_s"] / 60, 1),
                     "batch": config.batch}})
    write_references(out.parent / "references.png", drawings[:len(taught)])
    log(f"export: {out}, UNet step {state['step']}")
