"""What to do when the device has no room: recognise it, free, and run with less.

Every context manager here undoes on exit what it changed, so that a shared model leaves as it came.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .requests import Request


def is_out_of_memory(error: BaseException) -> bool:
    """Tell running out of memory, on a card or on the host, from other errors."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def free() -> None:
    """Give cached memory back. Call it outside the `except` block: a live traceback keeps its tensors alive."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def tiled(vae: Any) -> Iterator[None]:
    """Encode and decode in tiles."""
    before = vae.use_tiling
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.use_tiling = before


@contextmanager
def upcast(module: torch.nn.Module, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Run a module in a wider dtype. Going there and back is exact."""
    before = module.dtype
    module.to(dtype)
    try:
        yield
    finally:
        module.to(before)


@contextmanager
def aside(*modules: torch.nn.Module) -> Iterator[None]:
    """Keep modules in host memory for a while."""
    homes = [module.device for module in modules]
    for module in modules:
        module.to("cpu")
    try:
        yield
    finally:
        for module, home in zip(modules, homes, strict=True):
            module.to(home)


def smaller_size(request: Request) -> tuple[int, int]:
    """The next size to try: half the pixels, in steps of 64 px where that is possible."""
    def shrink(side: int) -> int:
        grain = 64 if side > 256 else 8
        return max(64, int(side * 0.7) // grain * grain)

    return shrink(request.width), shrink(request.height)
