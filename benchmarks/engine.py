"""What a process of its own costs: python -m benchmarks.engine [--pairs 10] [--steps 20]

The same jobs, with previews and files, on an engine in this process and on one in its own, in turns (A B B A ...). CPU
time is that of both processes, all threads.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import psutil

from pipelines.engine.engine import Engine
from pipelines.engine.proxy import EngineProcess
from pipelines.events import StepDone
from pipelines.requests import Txt2Img, make
from pipelines.requests.caller import Caller
from pipelines.settings import load
from pipelines.studio.studio import Studio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10, help="interleaved pairs")
    parser.add_argument("--steps", type=int, default=20, help="steps of each of the four pictures of a job")
    options = parser.parse_args()
    with ExitStack() as stack:
        kinds = {"in this process": studio_on(Engine, stack), "in its own": studio_on(EngineProcess, stack)}
        start_s = [engine_cpu_s(kinds["in its own"])]
        for studio in kinds.values():
            draw(studio, options.steps)
        spent: dict[str, list[float]] = {kind: [] for kind in kinds}
        for pair in range(options.pairs):
            for kind in list(kinds)[::1 if pair % 2 else -1]:
                spent[kind].append(cpu_of(lambda kind=kind: draw(kinds[kind], options.steps), kinds["in its own"]))
        stops = [stop_s(kinds["in its own"]) for _ in range(5)]
    print("| what | median | range |")
    print("|---|---|---|")
    ratios = [own / here for own, here in zip(spent["in its own"], spent["in this process"], strict=True)]
    rows = {"CPU, engine in its own process / in this one": (ratios, ""), "Stop to the end of the job": (stops, " s"),
            "CPU of an engine's start": (start_s, " s")}
    for what, (values, unit) in rows.items():
        print(f"| {what} | {statistics.median(values):.3f}{unit} | {min(values):.3f} to {max(values):.3f} |")


def studio_on(start: Any, stack: ExitStack) -> Studio:
    """A studio whose engine is up."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    studio = Studio(load(["--data-dir", folder], {}), start=start)
    stack.callback(studio.close)
    studio.memory.need(None, 128, 128)
    return studio


def draw(studio: Studio, steps: int) -> None:
    """One job, followed as a page does."""
    request = make(Txt2Img, prompt="a red apple", steps=steps, batch_count=4, width=128, height=128, seed=1)
    for _ in studio.submit(request, Caller(page="benchmark")).follow():
        pass


def stop_s(studio: Studio) -> float:
    """Seconds from Stop to the end of a job in the middle of a picture."""
    job = studio.submit(make(Txt2Img, prompt="x", steps=150, batch_count=4, seed=1), Caller(page="benchmark"))
    next(event for event in job.follow() if isinstance(event, StepDone))
    begin = time.monotonic()
    job.stop()
    job.wait()
    return time.monotonic() - begin


def cpu_of(run: Callable[[], None], studio: Studio) -> float:
    """CPU seconds of this process and of the engine's."""
    before = time.process_time() + engine_cpu_s(studio)
    run()
    return time.process_time() + engine_cpu_s(studio) - before


def engine_cpu_s(studio: Studio) -> float:
    times = psutil.Process(studio._engines[0].pid).cpu_times()
    return times.user + times.system


if __name__ == "__main__":
    sys.exit(main())
