"""What a step of our training loop costs beside the usual one: python -m benchmarks.training [--shape demo ...]

The other loop has the structure of diffusers' Stable Diffusion LoRA example, written anew here: it decodes pictures,
runs the autoencoder and the text encoder in every step, and adds the LoRA with peft. Model, targets, rank, batch,
precision, optimizer and clipping are the same. Each loop lives in a process of its own, and they take turns, because
machines are noisy; the ratio is what counts. CPU time is that of a whole process, all threads; on a card, wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipelines.machine.device import prepare_environment

from .loops import LOOPS, SHAPES, cpu_s, write_model

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["demo", "sd15-256", "sd15-512"])
    parser.add_argument("--turns", type=int, default=6, help="turns of each loop")
    parser.add_argument("--steps", type=int, help="steps a turn; by default what fits the shape")
    parser.add_argument("--child", nargs=3, metavar=("LOOP", "SHAPE", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    prepare_environment(os.environ)
    if options.child:
        serve(*options.child)
        return
    titles = ("shape", "ours, steps/s", "example, steps/s", "ours / example", "target", "peak memory, ours", "example",
              "encoding a picture, once")
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in options.shape:
            compare(name, Path(folder), options.turns, options.steps or SHAPES[name].steps)


def compare(name: str, folder: Path, turns: int, steps: int) -> None:
    """Print one row: speeds in steps per second of CPU time, medians over the turns."""
    shape = SHAPES[name]
    model = "demo" if not shape.family else str(write_model(folder, shape.family))
    took: dict[str, list[float]] = {loop: [] for loop in LOOPS}
    children = {loop: Child(loop, name, model) for loop in LOOPS}
    for turn in range(turns):
        for loop in sorted(LOOPS, reverse=bool(turn % 2)):
            took[loop].append(children[loop].ask(steps))
    told = {loop: child.end() for loop, child in children.items()}
    ours, example = (statistics.median(took[loop]) for loop in LOOPS)
    ratios = [there / here for here, there in zip(took["ours"], took["example"], strict=True)]
    print(f"| {name} | {1 / ours:.3f} | {1 / example:.3f} | {example / ours:.2f} ({min(ratios):.2f} to "
          f"{max(ratios):.2f}) | {shape.target} | {told['ours']['peak'] / 2**20:,.0f} MB | "
          f"{told['example']['peak'] / 2**20:,.0f} MB | {told['ours']['encoding_s']:.2f} s |",
          flush=True)


class Child:
    """A process with one of the loops, which waits to be asked for steps."""

    def __init__(self, loop: str, shape: str, model: str):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.training", "--child", loop, shape, model], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._told = json.loads(self._process.stdout.readline())

    def ask(self, steps: int) -> float:
        """Take steps; returns seconds a step."""
        print(steps, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def end(self) -> dict[str, Any]:
        """What the process tells of itself."""
        answer, _ = self._process.communicate("\n")
        return {**self._told, **json.loads(answer)}


def serve(loop: str, shape: str, model: str) -> None:
    """Be such a process: a line with a number asks for steps, an empty one ends."""
    with tempfile.TemporaryDirectory() as folder:
        steps, encoding_s = LOOPS[loop](SHAPES[shape], model, Path(folder))
        next(steps)  # the first is slower than the rest
        forget_peak()
        print(json.dumps({"encoding_s": encoding_s}), flush=True)
        while asked := sys.stdin.readline().strip():
            begin = cpu_s()
            for _ in range(int(asked)):
                next(steps)
            print(json.dumps((cpu_s() - begin) / int(asked)), flush=True)
        print(json.dumps({"peak": peak_bytes()}), flush=True)


def forget_peak() -> None:
    """Begin to watch the memory anew: loading a model takes more than a step does."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):  # Linux alone can
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


if __name__ == "__main__":
    main()
