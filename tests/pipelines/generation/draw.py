"""Drawing with the parts of a tiny model, by our loop and by the stock pipelines, and breaking them on purpose."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pipelines.events import ImageReady
from pipelines.families import FAMILIES
from pipelines.generation import library_schedulers, samplers
from pipelines.models.cache import build

BASE = dict(prompt="a red cat", negative_prompt="a dog", sampler="DPM++ 2M", schedule="Automatic", steps=4,
            guidance_scale=5.0, width=64, height=64, seed=7)


def components(folder):
    """The parts of a folder, as the cache keeps them."""
    import diffusers

    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return {name: part for name, part in pipe.components.items() if part is not None}


def picture(size=(64, 64), mode="RGB", seed=0):
    bands = len(mode)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), np.uint8)
    return Image.fromarray(values[..., 0] if bands == 1 else values, mode)


def disc(size, centre, radius):
    y, x = np.mgrid[: size[1], : size[0]]
    return Image.fromarray((((x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2) * 255).astype(np.uint8))


def events(model, request, images=None, control=None, task="txt2img"):
    from pipelines.generation import generate

    family, parts = model
    pipe = build(family, task, parts)
    return list(generate.run(request, pipe, FAMILIES[family], (images or {}).__getitem__, control))


def pictures(*args, **kwargs):
    return [event.image for event in events(*args, **kwargs) if isinstance(event, ImageReady)]


def stock(model, task, request, **kwargs):
    """The same picture by the stock pipeline, with the same scheduler and generators."""
    import torch

    family, parts = model
    pipe = build(family, task, parts)
    pipe.set_progress_bar_config(disable=True)
    earlier = samplers.is_earlier(request.schedule)
    made = library_schedulers.make if earlier else samplers.make
    pipe.scheduler = made(request.sampler, request.schedule.partition(" (0")[0], dict(parts["scheduler"].config),
                          request.steps, "cpu")
    generators = [torch.Generator().manual_seed(request.seed + i) for i in range(request.batch_size)]
    return pipe(prompt=[request.prompt] * request.batch_size,
                negative_prompt=[request.negative_prompt] * request.batch_size,
                num_inference_steps=request.steps, guidance_scale=request.guidance_scale, generator=generators,
                **kwargs).images


def same(a, b):
    return a.size == b.size and a.mode == b.mode and a.tobytes() == b.tobytes()


def furthest(a, b):
    return int(np.abs(np.asarray(a, np.int16) - np.asarray(b, np.int16)).max())


class FaultAt:
    """A forward hook that raises or returns NaN at chosen calls."""

    def __init__(self, module, calls, error=None):
        self.calls, self.error, self.count = calls, error, 0
        self.handle = module.register_forward_hook(self)

    def __call__(self, module, args, output):
        self.count += 1
        if self.count in self.calls:
            if self.error:
                raise self.error
            return output * float("nan") if hasattr(output, "mul") else (output[0] * float("nan"), *output[1:])
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.handle.remove()


def out_of_memory():
    import torch

    return torch.OutOfMemoryError("CUDA out of memory")
