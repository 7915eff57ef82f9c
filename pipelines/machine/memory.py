"""Running out of memory: recognise it, free what was held, and go on with less or say what to do.

A piece of work that may find no room stands in one of two contexts. `attempt` is for what has another way to go on;
`refusing` is for what has none. Imports nothing heavy with itself. Every context manager here undoes on exit what it
changed, so that a shared model leaves as it came.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import OutOfMemory

if TYPE_CHECKING:
    import torch
    from diffusers import AutoencoderKL

# What errors say that have no type of their own: of torch's CPU allocator, of MPS and of cuBLAS.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory: you tried to allocate",
                 "CUBLAS_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell running out of memory, on a card or on the host, from other errors."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


def free() -> None:
    """Give memory that torch keeps of freed tensors back to the driver, where other processes can have it.

    A live traceback keeps the tensors of its frames alive: inside an `except` block this frees little.
    """
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


@dataclass
class Attempt:
    """full: whether the work found no room."""

    full: bool = False


@contextmanager
def attempt(*, last: bool = False) -> Iterator[Attempt]:
    """Try what may find no room. Then `full` is true afterwards, and what the work held is free.

    last: nothing is left to try after it, so that running out of memory passes through as other errors do.
    """
    made = Attempt()
    try:
        yield made
    except Exception as error:
        if last or not is_out_of_memory(error):
            raise
        _let_go(error)
        made.full = True
    if made.full:
        free()


@contextmanager
def refusing(message: str | Callable[[], str]) -> Iterator[None]:
    """Raise OutOfMemory with a sentence, which says what to try, where the work finds no room."""
    with attempt() as made:
        yield
    if made.full:
        raise OutOfMemory(message if isinstance(message, str) else message())


def _let_go(error: BaseException) -> None:
    """Clear the frames that an error and those before it went through: their variables keep the tensors alive."""
    one: BaseException | None = error
    while one is not None:
        traceback.clear_frames(one.__traceback__)
        one = one.__context__


@contextmanager
def tiled(vae: AutoencoderKL) -> Iterator[None]:
    """Encode and decode in tiles."""
    before = vae.use_tiling
    vae.enable_tiling()
    try:
        yield
    finally:
        vae.use_tiling = before


@contextmanager
def upcast(module: torch.nn.Module, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Run a module in a wider dtype, float32 if None. Going there and back is exact."""
    import torch

    before = module.dtype
    module.to(dtype or torch.float32)
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
