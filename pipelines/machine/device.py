"""The one place that asks what the machine has. torch is imported inside the functions, never at import."""

from __future__ import annotations

import re
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import RequestError, quoted
from . import deferred_import

DTYPES = ("float32", "float16", "bfloat16")
# Smaller U-Nets are bound by the cost of calls, not of arithmetic: bfloat16 gains too little for its rounding.
BFLOAT16_FROM_PARAMETERS = 100_000_000
# What an error says that has no class of its own: of a Mac or a driver, of the host, of the host on Windows, of cuBLAS.
ALLOCATOR_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # torch's name for them, and its old one
CGROUP_FILES = (  # (limit, use, its parts) of a container's memory: cgroup v2, then v1
    tuple(Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current", "memory.stat")),
    tuple(Path("/sys/fs/cgroup/memory") / name for name in (
        "memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")),
)


@dataclass(frozen=True)
class Placement:
    """Where a checkpoint's weights go. device: "cpu", "mps", "cuda" or "cuda:1". dtypes: torch's names.

    offload: "none", or "model" or "group" where weights wait in host memory (pipelines/models/offload.py). weights:
    "8-bit" or "4-bit" for those of what denoises, "" for dtype.
    """

    device: str
    dtype: str
    vae_dtype: str
    offload: str = "none"
    weights: str = ""

    @property
    def home(self) -> str:
        """Where the weights are between two jobs."""
        return self.device if self.offload == "none" else "cpu"


def prepare_environment(environ: MutableMapping[str, str], *, offline: bool = False) -> None:
    """Set what torch and the hub's client read when they are first imported; what is set already stays.

    With the default wait policy OpenMP's threads spin while they wait: when another process uses a core, a U-Net
    step takes 5 to 13 times as long. The package that they would import in vain waits, too (deferred_import.py).
    """
    environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # a few operations have no Metal kernel
    # Without it, memory that pictures of many sizes leave in pieces cannot be joined again. Windows' driver lacks it.
    if sys.platform == "linux" and not any(environ.get(name) for name in ALLOCATOR_SETTINGS):
        environ[ALLOCATOR_SETTINGS[0]] = "expandable_segments:True"
    for name in ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        environ.setdefault(name, "1")
    environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    if offline:
        environ["HF_HUB_OFFLINE"] = "1"
    deferred_import.postpone()


def choose(settings_device: str = "auto", settings_dtype: str = "auto", *, unet_parameters: int,
           half_vae: bool, wide: bool = False) -> Placement:
    """Choose device and number formats for a checkpoint, or raise RequestError for what this machine has not.

    half_vae: False when the family's autoencoder overflows in float16. It decodes in float32 on MPS and the CPU in
    any case: on MPS half precision shows artefacts, on the CPU one decode is a small part of a picture and
    bfloat16's 8 bits would be visible in smooth skies. wide: whether the numbers leave float16's range, as those of
    flow transformers and of their T5 do. bfloat16 is chosen only where the device multiplies it: older cards emulate
    it, which is slower than float32.
    """
    device = _device(settings_device)
    kind = device.partition(":")[0]
    if settings_dtype not in ("auto", *DTYPES):
        raise RequestError(f"Dtype: {quoted(settings_dtype)} is not possible. It is one of auto, {', '.join(DTYPES)}.",
                           "dtype")
    if kind == "cpu":
        if settings_dtype == "float16":
            raise RequestError("Dtype: 'float16' is not possible on a CPU, where it is hundreds of times slower than "
                               "float32. Take auto, float32 or bfloat16.", "dtype")
        sound = unet_parameters > BFLOAT16_FROM_PARAMETERS and multiplies_bfloat16(device)
        automatic = "bfloat16" if sound else "float32"
    elif wide:
        automatic = "bfloat16" if multiplies_bfloat16(device) else "float32"
    else:
        automatic = "float16"
    dtype = automatic if settings_dtype == "auto" else settings_dtype
    half = kind == "cuda" and (dtype == "bfloat16" or half_vae)
    return Placement(device=device, dtype=dtype, vae_dtype=dtype if half else "float32")


def describe(settings_device: str = "auto", dtype: str = "") -> str:
    """One short line for the header: "CPU, 2 threads, float32". dtype: that of a placement, "" before there is one."""
    import torch

    device = _device(settings_device)
    if device == "cpu":
        count = torch.get_num_threads()
        words = ["CPU", f"{count} thread{'s' if count > 1 else ''}"]
    elif device == "mps":
        words = ["Apple GPU"]
    else:
        words = [torch.cuda.get_device_name(device)]
    return ", ".join([*words, dtype] if dtype else words)


def budget_bytes(settings_device: str = "auto", budget_gb: float | None = None) -> int:
    """How much memory checkpoints may take together: what was set, else a share of what is free when asked.

    A card keeps a quarter free for activations; main memory is shared with the system and everything else in it.
    """
    if budget_gb is not None:
        return int(budget_gb * 1e9)
    device = _device(settings_device)
    return int(free_bytes(device) * (0.75 if device.startswith("cuda") else 0.6))


def free_bytes(device: str) -> int:
    """Memory that can still be taken on `device`; what torch holds but does not use counts as free."""
    import torch

    if device.startswith("cuda"):
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device == "mps":
        return max(0, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return host_free_bytes()


def make_current(device: str) -> None:
    """Make a card the current one of this thread, on which streams and events are made that name none."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.set_device(torch.device(device).index or 0)


def synchronize(device: str) -> None:
    """Wait for the work that is queued on a device."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device.startswith("mps"):
        torch.mps.synchronize()


def multiplies_bfloat16(device: str) -> bool:
    """Whether a device has instructions for bfloat16, instead of emulating it."""
    import torch

    if device.startswith("cuda"):
        with torch.cuda.device(torch.device(device).index or 0):  # torch asks the current card
            return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def host_free_bytes() -> int:
    """Main memory that can still be taken: the machine's, or the container's limit when that is smaller."""
    import psutil

    free = psutil.virtual_memory().available
    for limit_file, use_file, parts_file in CGROUP_FILES:
        try:
            limit, used = limit_file.read_text().strip(), int(use_file.read_text())
            parts = dict(line.split() for line in parts_file.read_text().splitlines())
        except (OSError, ValueError):
            continue
        # Files that were read count as used, a checkpoint's gigabytes too, until somebody wants the memory.
        used -= sum(int(parts.get(name, 0)) for name in ("inactive_file", "active_file"))
        if limit.isdigit():  # "max" means no limit
            free = min(free, max(0, int(limit) - used))
    return free


def _device(asked: str) -> str:
    import torch

    has_mps = torch.backends.mps.is_available()
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto":
        return "cuda" if cards else "mps" if has_mps else "cpu"
    here = ["cpu"] + ["mps"] * has_mps + ["cuda"] * bool(cards) + [f"cuda:{i}" for i in range(cards)]
    if asked in here:
        return asked
    known = re.fullmatch(r"cuda(:\d+)?|mps", asked)
    reason = "This machine has no such device" if known else "There is no device of that name"
    raise RequestError(f"Device: {quoted(asked)} is not possible. {reason}; it has {', '.join(here)}.", "device")

