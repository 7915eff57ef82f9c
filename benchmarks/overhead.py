"""What the studio costs beside a bare diffusers call: python -m benchmarks.overhead [--pairs 10] [--job-s 10]

Pairs are interleaved (A B B A ...), because machines are noisy; the ratio is what counts. CPU time is that of the
whole process, all threads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.machine import deferred_import
from pipelines.requests.caller import Caller

ROOT = Path(__file__).parent.parent
PROMPT = "a red apple, noto style, white background"


def main() -> None:
    deferred_import.postpone()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10, help="interleaved pairs")
    parser.add_argument("--job-s", type=float, default=10.0, help="about how long one job takes")
    parser.add_argument("--child", choices=sorted(CHILDREN), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(CHILDREN[options.child]()))
        return
    print("| what | median | spread | |")
    print("|---|---|---|---|")
    _start_up()
    _memory()
    _pairs(options.pairs, options.job_s)


def row(what: str, values: list[float], unit: str, note: str = "") -> None:
    """Print one line: median and range."""
    print(f"| {what} | {statistics.median(values):.3f} {unit} | {min(values):.3f} to {max(values):.3f} | {note} |",
          flush=True)


def _studio(folder: str) -> Any:
    from pipelines.settings import load
    from pipelines.studio.studio import Studio

    return Studio(load(["--data-dir", folder], {}))


def _request(steps: int, **values: Any) -> Any:
    from pipelines.requests import Txt2Img, make

    return make(Txt2Img, prompt=PROMPT, sampler="Euler a", schedule="Automatic", steps=steps, guidance_scale=7.0,
                width=128, height=128, seed=1, **values)


def _pairs(count: int, job_s: float) -> None:
    """Our text to image, with previews, infotext and the file saved, against the pipeline called directly."""
    import torch
    from diffusers import EulerAncestralDiscreteScheduler, StableDiffusionPipeline

    from pipelines.library.checkpoints import EMBEDDED

    pipe = StableDiffusionPipeline.from_pretrained(EMBEDDED)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config)
    with tempfile.TemporaryDirectory() as folder:
        studio = _studio(folder)

        def ours(steps: int) -> None:
            job = studio.submit(_request(steps), Caller(page="benchmark"))
            for _ in job.follow():  # what a page does
                pass
            job.wait()

        def bare(steps: int) -> None:
            image = pipe(PROMPT, num_inference_steps=steps, guidance_scale=7.0, width=128, height=128,
                         generator=torch.Generator().manual_seed(1)).images[0]
            image.save(Path(folder) / "bare.png")

        ours(4), bare(4)
        steps = min(150, max(4, round(40 * job_s / _timed(bare, 40)[0])))
        wall, cpu = [], []
        for i in range(count):
            order = (ours, bare) if i % 2 == 0 else (bare, ours)
            took = {run: _timed(run, steps) for run in order}
            wall.append(took[ours][0] / took[bare][0])
            cpu.append(took[ours][1] / took[bare][1])
        print(f"| a bare call of {steps} steps, last one | {took[bare][0]:.2f} s | | |")
        row(f"ours / bare, wall time, {count} pairs", wall, "x", "target 1.03")
        row(f"ours / bare, CPU time, {count} pairs", cpu, "x", "target 1.03")
        studio.close()


def _timed(run: Callable[[int], None], steps: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run(steps)
    return time.perf_counter() - wall, time.process_time() - cpu


def _start_up(rounds: int = 3) -> None:
    """From `python app.py` until the page answers, and from then to the first picture over the public endpoint."""
    import httpx
    from gradio_client import Client

    pages, firsts, laters = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            app = subprocess.Popen([sys.executable, "app.py", "--data-dir", folder, "--port", "7990"], cwd=ROOT,
                                   stdout=subprocess.PIPE, text=True)
            try:
                address = next(line for line in app.stdout if "Atelier is at" in line).split()[-1]
                httpx.get(address).raise_for_status()
                pages.append(time.perf_counter() - begin)
                client = Client(address, verbose=False)
                for times in (firsts, laters):
                    begin = time.perf_counter()
                    client.predict(prompt=PROMPT, steps=20, api_name="/txt2img")
                    times.append(time.perf_counter() - begin)
            finally:
                app.terminate()
                app.wait(20)
    row("python app.py until the page answers", pages, "s", "target 4")
    row("first picture, 20 steps, asked for at once", firsts, "s", "target 10")
    row("the next picture, 20 steps", laters, "s", "target 3")


def _memory() -> None:
    """Private memory after one task and after all three, each in a process of its own."""
    one, three = _child("one_task"), _child("three_tasks")
    print(f"| private memory, text to image alone | {one / 2**20:.0f} MB | | |")
    print(f"| private memory, all three tasks used | {three / 2**20:.0f} MB | | {three / one:.3f} x, target 1 |")


def _child(name: str) -> float:
    command = [sys.executable, "-m", "benchmarks.overhead", "--child", name]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def _one_task() -> int:
    return _private(["txt2img"] * 6)


def _three_tasks() -> int:
    return _private(["txt2img", "img2img", "inpaint"] * 2)


def _private(tasks: list[str]) -> int:
    import psutil
    from PIL import Image

    from pipelines.requests import TASKS, make

    with tempfile.TemporaryDirectory() as folder:
        studio = _studio(folder)
        image = studio.images.add(Image.new("RGB", (128, 128), "red")).id
        for task in tasks:
            values = _request(10).model_dump() | {"image": image, "strength": 1.0}
            studio.submit(make(TASKS[task], **{name: value for name, value in values.items()
                                               if name in TASKS[task].model_fields})).wait()
        studio.close()
        return psutil.Process(os.getpid()).memory_full_info().uss


CHILDREN: dict[str, Callable[[], int]] = {"one_task": _one_task, "three_tasks": _three_tasks}

if __name__ == "__main__":
    main()
