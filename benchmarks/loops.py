"""The two loops that benchmarks.training compares, and the models that they train."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RANK, LEARNING_RATE, CLIP = 16, 1e-4, 1.0
ENCODED = 2  # pictures of our loop with a large model: encoding is timed by the picture


@dataclass(frozen=True)
class Shape:
    """family: whose published shape the model has, with random weights; "" is the embedded model. steps: a turn."""

    family: str
    resolution: int
    batch: int
    steps: int
    target: str


SHAPES = {
    "demo": Shape("", 128, 8, 4, "1.30"), "sd15-256": Shape("sd15", 256, 1, 1, "1.35"),
    "sd15-512": Shape("sd15", 512, 1, 1, "1.60"), "sdxl-1024": Shape("sdxl", 1024, 1, 1, "")}


def cpu_s() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def config_of(shape: Shape, model: str, folder: Path) -> Any:
    """The same request for both loops: steps that the benchmark never reaches, nothing measured, drawn or saved."""
    from pipelines.training.example import DRAWINGS
    from pipelines.training.request import TrainLora

    return TrainLora(model=model, data=str(DRAWINGS), output=str(folder), name="one", targets="attention", rank=RANK,
                     alpha=RANK, learning_rate=LEARNING_RATE, max_grad_norm=CLIP, batch_size=shape.batch,
                     resolution=shape.resolution, steps=100_000, validation=0.0, validate_every=1_000_000,
                     save_every=0, save_minutes=0, scheduler="constant", warmup=0.0, min_snr_gamma=0.0,
                     tensorboard=False)


def our_loop(shape: Shape, model: str, folder: Path) -> tuple[Iterator[Any], float]:
    """Our loop as a run makes it, without its process. Pictures and captions are encoded here, once."""
    from pipelines.settings import load
    from pipelines.training.dataset.survey import survey
    from pipelines.training.events import StepDone
    from pipelines.training.numbers import base_model as bases
    from pipelines.training.numbers import trainable as trainees
    from pipelines.training.numbers.batches import Examples, plan
    from pipelines.training.numbers.caches import TensorCache
    from pipelines.training.numbers.progress import Hooks
    from pipelines.training.presets import resolve
    from pipelines.training.run.loop import Loop
    from pipelines.training.run.state import Checkpoints

    config = config_of(shape, model, folder)
    settings = load(["--data-dir", str(folder)], {})
    card = bases.find_card(config, settings)
    pictures = survey(Path(config.data), resolution=shape.resolution)
    pictures = pictures[:ENCODED] if shape.family else pictures
    config = resolve(config, pictures=len(pictures), native_size=card.native_size,
                     unet_parameters=card.unet_parameters)
    base = bases.load(card, config, settings)
    examples = Examples(plan(pictures, config, base.size_step), [], base, config, TensorCache())
    begin = cpu_s()
    list(examples.prepare())
    encoding_s = (cpu_s() - begin) / len(pictures)
    base.park(text_too=True)
    loop = Loop(base, config, examples, trainees.make(base, config), Checkpoints(folder / "checkpoints", 1),
                Hooks(list, lambda folder, step: "", lambda step: iter(())))
    return (event for event in loop.train() if isinstance(event, StepDone)), encoding_s


def example_loop(shape: Shape, model: str, folder: Path) -> tuple[Iterator[None], float]:
    """The usual loop: everything in every step."""
    from diffusers import DDPMScheduler
    from peft import LoraConfig

    from pipelines.settings import load
    from pipelines.training.numbers import base_model as bases

    config = config_of(shape, model, folder)
    settings = load(["--data-dir", str(folder)], {})
    base = bases.load(bases.find_card(config, settings), config, settings)
    base.vae.to(base.unet.dtype)  # the example's half precision is that of all frozen parts
    base.unet.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian",
                                     target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    noise_scheduler = DDPMScheduler.from_config(base.components["scheduler"].config)
    return _example_steps(base, shape, noise_scheduler), 0.0


def _example_steps(base: Any, shape: Shape, noise_scheduler: Any) -> Iterator[None]:
    import torch
    from torch.nn import functional

    from pipelines.training.numbers.text import encode

    weights = [parameter for parameter in base.unet.parameters() if parameter.requires_grad]
    for weight in weights:
        weight.data = weight.data.float()
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, weight_decay=0.01)
    device, dtype = base.device, base.unet.dtype
    for pixels, captions in _pictures(shape):
        with torch.no_grad():
            latents = base.vae.encode(pixels.to(device, dtype)).latent_dist.sample() * base.vae.config.scaling_factor
            embeds, pooled = encode(base.components, base.family, captions, 1)
        noise = torch.randn_like(latents)
        times = torch.randint(0, noise_scheduler.config.num_train_timesteps, (len(captions),), device=device)
        noisy = noise_scheduler.add_noise(latents, noise, times)
        velocity = noise_scheduler.config.prediction_type == "v_prediction"
        wanted = noise_scheduler.get_velocity(latents, noise, times) if velocity else noise
        added = {}
        if pooled is not None:
            ids = [[shape.resolution, shape.resolution, 0, 0, shape.resolution, shape.resolution]] * len(captions)
            added["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": torch.tensor(ids, device=device)}
        with torch.autocast(device.type, base.autocast, enabled=base.autocast != torch.float32):
            told = base.unet(noisy, times, encoder_hidden_states=embeds, **added, return_dict=False)[0]
        loss = functional.mse_loss(told.float(), wanted.float())
        loss.item()  # it is gathered and logged in every step
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        yield


def _pictures(shape: Shape) -> Iterator[tuple[Any, list[str]]]:
    """Endless batches, decoded, resized and flipped anew each time: pixels (b, 3, h, w) in [-1, 1], and captions."""
    import random

    import numpy as np
    import torch
    from PIL import Image, ImageOps

    from pipelines.training.example import DRAWINGS

    files, draw = sorted(DRAWINGS.glob("*.png")), random.Random(0)
    while True:
        batch = draw.sample(files, shape.batch)
        images = []
        for path in batch:
            with Image.open(path) as opened:
                image = opened.convert("RGB").resize((shape.resolution, shape.resolution), Image.Resampling.BILINEAR)
            images.append(np.asarray(ImageOps.mirror(image) if draw.random() < 0.5 else image, np.float32))
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 127.5 - 1
        yield pixels, [path.with_suffix(".txt").read_text("utf-8").strip() for path in batch]


def write_model(folder: Path, family: str) -> Path:
    """Write a model of a family's published shape with random weights, once; returns its folder."""
    import diffusers
    import torch
    import transformers

    from pipelines.families.clip import CONFIGS, write_vocabulary

    target = folder / family
    if target.exists():
        return target
    shutil.copytree(CONFIGS / family, target)
    index = json.loads((target / "model_index.json").read_text("utf-8"))
    for part, (library, name) in ((part, said) for part, said in index.items() if isinstance(said, list) and said[0]):
        if name == "CLIPTokenizer":
            write_vocabulary(target / part)
            continue
        cls = getattr(diffusers if library == "diffusers" else transformers, name)
        with torch.device("meta"):
            if library == "transformers":
                network = cls(cls.config_class.from_pretrained(target / part))
            elif issubclass(cls, torch.nn.Module):
                network = cls.from_config(cls.load_config(target / part))
            else:
                continue
        network = network.to(torch.bfloat16).to_empty(device="cpu")
        for key, weight in network.named_parameters():
            with torch.no_grad():
                # Of a sound size, because arithmetic with numbers that are almost 0 is slow.
                spread = weight[0].numel() ** -0.5 if weight.dim() > 1 else 0.0
                weight.normal_(float(weight.dim() == 1 and key.endswith("weight")), spread)
        network.save_pretrained(target / part)
    return target


LOOPS: dict[str, Callable[[Shape, str, Path], tuple[Iterator[Any], float]]] = {"ours": our_loop,
                                                                              "example": example_loop}
