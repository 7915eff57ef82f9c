"""What loading costs beside stock diffusers: python -m benchmarks.loading [--pairs 5] [--dtypes float32 bfloat16]

A folder in the shape of Stable Diffusion 1.5 with random weights in float16 (2.1 GB) is built once in a temporary
place. Each load is a process of its own; ours and stock's are interleaved (A B B A ...), because machines are noisy,
and the ratio is what counts; that of CPU time holds on a busy machine too. Private memory is what nobody else could
use: mapped files do not count, and what the imports take is subtracted. Its peak is watched from a thread.
--dtypes float16 compares something else: stock then only maps the file, which no CPU computes with, and reads nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from pipelines.machine import deferred_import

ROOT = Path(__file__).parent.parent
WATCH_S = 0.02
TARGET_TIME, TARGET_MEMORY = 1.2, 1.15


def main() -> None:
    deferred_import.postpone()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"], help="formats to load into")
    parser.add_argument("--folder", type=Path, help="where the model is kept, to be built when it is not there")
    parser.add_argument("--child", nargs=3, metavar=("WHO", "FOLDER", "DTYPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        who, folder, dtype = options.child
        print(json.dumps(CHILDREN[who](Path(folder), dtype)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = options.folder or Path(place) / "model"
        if not folder.exists():
            _child("build", folder, "float16")
        _child("ours", folder, "float16")  # so that the files are in the system's cache
        print(f"| format | ours | stock | ours / stock, time (target {TARGET_TIME}) | CPU time "
              f"| peak private memory / weights (target {TARGET_MEMORY}) |")
        print("|---|---|---|---|---|---|", flush=True)
        for dtype in options.dtypes:
            _pairs(folder, dtype, options.pairs)


def _pairs(folder: Path, dtype: str, count: int) -> None:
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "stock": []}
    for i in range(count):
        for who in ("ours", "stock") if i % 2 == 0 else ("stock", "ours"):
            runs[who].append(_child(who, folder, dtype))
    median = {who: statistics.median(run["seconds"] for run in found) for who, found in runs.items()}
    memory = {who: max(run["peak_bytes"] / run["weight_bytes"] for run in found) for who, found in runs.items()}
    print(f"| {dtype} | {median['ours']:.2f} s | {median['stock']:.2f} s | {_ratio(runs, 'seconds')} "
          f"| {_ratio(runs, 'cpu_seconds')} | {memory['ours']:.2f} x (stock {memory['stock']:.2f}) |", flush=True)


def _ratio(runs: dict[str, list[dict[str, float]]], what: str) -> str:
    found = [ours[what] / stock[what] for ours, stock in zip(runs["ours"], runs["stock"], strict=True)]
    return f"{statistics.median(found):.2f} x ({min(found):.2f} to {max(found):.2f})"


def _child(who: str, folder: Path, dtype: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.loading", "--child", who, str(folder), dtype]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _build(folder: Path, dtype: str) -> dict[str, float]:
    """Write the folder. Random weights compress no better than real ones, and no page of them is a hole."""
    import shutil

    import diffusers
    import torch
    import transformers

    from pipelines.families.clip import CONFIGS, write_vocabulary

    shutil.copytree(CONFIGS / "sd15", folder)
    write_vocabulary(folder / "tokenizer")
    for part, cls in (("unet", diffusers.UNet2DConditionModel), ("vae", diffusers.AutoencoderKL),
                      ("text_encoder", transformers.CLIPTextModel)):
        with torch.device("meta"):
            network = (cls(transformers.CLIPTextConfig.from_pretrained(folder / part)) if part == "text_encoder"
                       else cls.from_config(cls.load_config(folder / part)))
        network = network.to(getattr(torch, dtype)).to_empty(device="cpu")
        for parameter in (*network.parameters(), *network.buffers()):
            if parameter.is_floating_point():
                parameter.data.normal_(std=0.02)
            else:
                parameter.data.copy_(torch.arange(parameter.numel()).reshape(parameter.shape))
        network.save_pretrained(folder / part)
    return {}


def _ours(folder: Path, dtype: str) -> dict[str, float]:
    import diffusers
    import torch
    import transformers

    from pipelines.library.read.card import read_folder
    from pipelines.machine.device import Placement
    from pipelines.models import loading

    _import_classes(diffusers, transformers)
    card = read_folder(folder, "random")
    with _Watch() as watch:
        components = loading.load(card, Placement("cpu", dtype, dtype))
    assert next(components["unet"].parameters()).dtype == getattr(torch, dtype)
    return watch.told(loading.bytes_of(components))


def _stock(folder: Path, dtype: str) -> dict[str, float]:
    import diffusers
    import torch
    import transformers

    _import_classes(diffusers, transformers)
    with _Watch() as watch:
        pipe = diffusers.StableDiffusionPipeline.from_pretrained(folder, torch_dtype=getattr(torch, dtype),
                                                                 local_files_only=True, safety_checker=None)
    return watch.told(sum(tensor.numel() * tensor.element_size() for part in (pipe.unet, pipe.vae, pipe.text_encoder)
                          for tensor in (*part.parameters(), *part.buffers())))


def _import_classes(diffusers: Any, transformers: Any) -> None:
    """Both libraries import a class when it is first named; that is no part of loading."""
    for name in ("StableDiffusionPipeline", "UNet2DConditionModel", "AutoencoderKL", "PNDMScheduler"):
        getattr(diffusers, name)
    for name in ("CLIPTextModel", "CLIPTokenizer"):
        getattr(transformers, name)


class _Watch:
    """Time and the highest private memory of this process above that at the start."""

    def __enter__(self) -> _Watch:
        import psutil

        self._process, self._over = psutil.Process(os.getpid()), threading.Event()
        self._before = self._peak = self._private()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        self._begin, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds, self.cpu_seconds = time.perf_counter() - self._begin, time.process_time() - self._cpu
        self._over.set()
        self._thread.join()
        self._peak = max(self._peak, self._private())

    def told(self, weight_bytes: int) -> dict[str, float]:
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "peak_bytes": self._peak - self._before,
                "weight_bytes": weight_bytes}

    def _look(self) -> None:
        while not self._over.wait(WATCH_S):
            self._peak = max(self._peak, self._private())

    def _private(self) -> int:
        """Anonymous memory: resident pages that no file stands behind."""
        memory = self._process.memory_info()
        return memory.rss - memory.shared


CHILDREN = {"build": _build, "ours": _ours, "stock": _stock}

if __name__ == "__main__":
    main()
