"""A pretend CUDA card, as a plugin of pytest: `cuda` devices are then host memory that refuses what a card refuses.

torch's own build for the CPU is made to believe in a card: a library (native/) takes over the dispatch key of CUDA,
and this module answers what torch.cuda asks of a driver. So `device.type` is "cuda", and autocast, streams, and the
hooks of accelerate and diffusers are the very code that a card runs. Memory is counted, limited and cached. Not
emulated: work that is queued (but see `queued`), fragments, cuDNN, speed, bitsandbytes. It holds for the whole process,
so the tests of the card have one of their own (tests/test_card.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import build

LIBRARY = build.library(Path(os.environ["PRETEND_CACHE"]))
ctypes.CDLL(str(build.torch_folder() / "lib" / "libtorch_cpu.so"), mode=ctypes.RTLD_GLOBAL)
lib = ctypes.CDLL(str(LIBRARY), mode=ctypes.RTLD_GLOBAL)
for _name in ("used", "peak", "reserved", "get_limit"):
    getattr(lib, f"pretend_{_name}").restype = ctypes.c_int64
lib.pretend_limit.argtypes = [ctypes.c_int, ctypes.c_int64]

import torch  # noqa: E402 - it asks for CUDA when it is imported

cuda = torch.cuda
CARDS = lib.pretend_cards()
CAPACITY = int(float(os.environ.get("PRETEND_GB", "8")) * 1e9)
for _i in range(CARDS):
    lib.pretend_limit(_i, CAPACITY)


# What happens on the cards


@dataclass(frozen=True)
class Happened:
    """kind: "sync" where the host waits, "async" where it does not, "refused", "widened", "stream"."""

    kind: str
    what: str
    bytes: int


_recorded: list[Happened] | None = None
_queued_s = 0.0


@ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int64)
def _tell(kind: bytes, what: bytes, size: int) -> None:
    global _queued_s
    if kind == b"sync" and _queued_s:
        wait_s, _queued_s = _queued_s, 0.0
        time.sleep(wait_s)
    if _recorded is not None:
        _recorded.append(Happened(kind.decode(), what.decode(), size))


lib.pretend_callback(_tell)


@contextlib.contextmanager
def recorded() -> Iterator[list[Happened]]:
    """Record what happens meanwhile."""
    global _recorded
    _recorded = []
    try:
        yield _recorded
    finally:
        _recorded = None


def queued(seconds: float) -> None:
    """Let the next wait of the host last so long, as if a card had that much work in its queue."""
    global _queued_s
    _queued_s = seconds


@contextlib.contextmanager
def limited(free_bytes: int, card: int = 0) -> Iterator[None]:
    """Leave only so much of a card free meanwhile, beside what is in use."""
    gc.collect()
    cuda.empty_cache()
    lib.pretend_limit(card, lib.pretend_used(card) + int(free_bytes))
    try:
        yield
    finally:
        lib.pretend_limit(card, CAPACITY)


# torch.cuda


def _index(device: Any = None) -> int:
    if device is None:
        return lib.pretend_device()
    if isinstance(device, int):
        return device
    device = torch.device(device)
    if device.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {device}")
    return lib.pretend_device() if device.index is None else device.index


class Properties:
    """Of a card of the Ampere generation."""

    name, major, minor, multi_processor_count, warp_size = "Pretend GPU", 8, 6, 28, 32
    total_memory = CAPACITY
    gcnArchName = ""
    shared_memory_per_block_optin = 101376
    L2_cache_size = 1 << 22
    max_threads_per_multi_processor = 1536
    regs_per_multiprocessor = 65536


class Stream(torch.Stream):
    """A stream of the current card, unless another one is named."""

    cuda_stream = 0

    def __new__(cls, device: Any = None, priority: int = 0, **given: Any) -> Stream:
        if given:
            return super().__new__(cls, **given)
        index = _index(device)
        _tell(b"stream", f"cuda:{index}".encode(), 0)
        return super().__new__(cls, device=torch.device("cuda", index), priority=priority)


class Event(torch.Event):
    """An event of the current card."""

    def __new__(cls, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False,
                external: bool = False) -> Event:
        return super().__new__(cls, device="cuda", enable_timing=enable_timing, blocking=blocking)


@contextlib.contextmanager
def stream(chosen: Any) -> Iterator[Any]:
    """Queue work on a stream."""
    if chosen is None:
        yield
        return
    before = torch.accelerator.current_stream()
    torch.accelerator.set_stream(chosen)
    try:
        yield chosen
    finally:
        torch.accelerator.set_stream(before)


class CurrentDevice:
    """Make a card the current one meanwhile."""

    def __init__(self, device: Any):
        unchanged = device is None or isinstance(device, int) and device < 0
        self._wanted = None if unchanged else _index(device)

    def __enter__(self) -> None:
        self._before = lib.pretend_device()
        if self._wanted is not None:
            lib.pretend_set_device(self._wanted)

    def __exit__(self, *_: Any) -> None:
        lib.pretend_set_device(self._before)


def _set_device(device: Any) -> None:
    index = _index(device)
    if index >= CARDS:
        raise RuntimeError("CUDA error: invalid device ordinal")
    lib.pretend_set_device(index)


def _mem_get_info(device: Any = None) -> tuple[int, int]:
    index = _index(device)
    limit = lib.pretend_get_limit(index)
    return limit - lib.pretend_reserved(index), limit


def _of_card(function: Callable[[int], int]) -> Callable[..., int]:
    return lambda device=None: function(_index(device))


DRIVER: dict[str, Any] = {
    "is_available": lambda: CARDS > 0, "device_count": lambda: CARDS, "_lazy_init": lambda: None, "init": lambda: None,
    "is_initialized": lambda: True, "current_device": lambda: lib.pretend_device(), "set_device": _set_device,
    "synchronize": lambda device=None: _tell(b"sync", b"torch.cuda.synchronize", 0), "mem_get_info": _mem_get_info,
    "memory_allocated": _of_card(lib.pretend_used), "memory_reserved": _of_card(lib.pretend_reserved),
    "max_memory_allocated": _of_card(lib.pretend_peak), "max_memory_reserved": _of_card(lib.pretend_peak),
    "reset_peak_memory_stats": _of_card(lib.pretend_reset_peak), "empty_cache": lambda: lib.pretend_empty_cache(),
    "ipc_collect": lambda: None, "get_device_name": lambda device=None: f"Pretend GPU {_index(device)}",
    "get_device_properties": lambda device=None: Properties, "get_device_capability": lambda device=None: (8, 6),
    "get_arch_list": lambda: ["sm_86"], "is_bf16_supported": lambda including_emulation=True: True,
    "current_stream": lambda device=None: torch.accelerator.current_stream(_index(device)),
    "default_stream": lambda device=None: torch.accelerator.current_stream(_index(device)),
    "set_stream": lambda chosen: torch.accelerator.set_stream(chosen), "memory_stats": lambda device=None: {},
    "is_current_stream_capturing": lambda: False, "Stream": Stream, "Event": Event, "stream": stream,
    "device": CurrentDevice}


def _install() -> None:
    torch.version.cuda = "12.8"
    cuda._initialized = True
    for name, value in DRIVER.items():
        for module in (cuda, cuda.memory, cuda.streams):
            if module is cuda or hasattr(module, name):
                setattr(module, name, value)
    own = cuda.default_generators = tuple(torch.Generator(f"cuda:{i}") for i in range(CARDS))
    randomness = {
        "manual_seed": lambda seed: own[lib.pretend_device()].manual_seed(seed) and None,
        "manual_seed_all": lambda seed: [one.manual_seed(seed) for one in own] and None,
        "seed": lambda: None, "seed_all": lambda: None, "initial_seed": lambda: own[0].initial_seed(),
        "get_rng_state": lambda device="cuda": own[_index(device)].get_state(),
        "get_rng_state_all": lambda: [one.get_state() for one in own],
        "set_rng_state": lambda state, device="cuda": own[_index(device)].set_state(state) and None,
        "set_rng_state_all": lambda states: [g.set_state(s) for g, s in zip(own, states, strict=True)] and None}
    for name, value in randomness.items():
        setattr(cuda, name, value)
        setattr(cuda.random, name, value)
    if not hasattr(torch._C, "_cuda_getCurrentRawStream"):
        torch._C._cuda_getCurrentRawStream = lambda device: 0
    on_cpu = torch.storage._StorageBase.clone

    def clone(storage: Any) -> Any:
        """Copy a storage; this torch cannot make one on a card by name, but a tensor's is the same."""
        if storage.device.type != "cuda":
            return on_cpu(storage)
        made = torch.empty(storage.nbytes(), dtype=torch.uint8, device=storage.device)
        if storage.nbytes():
            made.copy_(torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage))
        return made.untyped_storage()

    torch.storage._StorageBase.clone = clone


_install()
