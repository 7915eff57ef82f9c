"""Whether the studio stays as it is: python -m benchmarks.soak [--jobs 200] [--opens 300] [--clients 50]

Mixed jobs with changing sizes, tasks, models, LoRAs and failures, page opens, and clients that ask all at once, on one
app with a tiny model. Printed after each round: memory, threads, open files and seconds. What grows from round to
round, leaks; the first round fills the caches and starts the threads, and does not count.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.requests.caller import Caller

ROUNDS = 5
AT_ONCE = 8  # pages opened side by side
TASKS = ("txt2img", "img2img", "inpaint", "upscale")


@dataclass(frozen=True)
class Standing:
    """What the app and its engine hold. memory: bytes that are their own."""

    memory: int
    threads: int
    files: int

    @classmethod
    def now(cls) -> Standing:
        """Measure this process and its engine, after a garbage collection in this one."""
        import psutil

        gc.collect()
        process = psutil.Process(os.getpid())
        all_of_them = [process, *process.children(recursive=True)]
        return cls(sum(each.memory_full_info().uss for each in all_of_them),
                   sum(each.num_threads() for each in all_of_them), sum(each.num_fds() for each in all_of_them))

    def drift(self, later: Standing) -> dict[str, float]:
        """How much more of each there is later, as a share of what there was; what shrank is 0."""
        pairs = {name: (getattr(self, name), getattr(later, name)) for name in ("memory", "threads", "files")}
        return {name: max(0.0, after / before - 1) for name, (before, after) in pairs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200, help="mixed jobs in all")
    parser.add_argument("--opens", type=int, default=300, help="page opens in all")
    parser.add_argument("--clients", type=int, default=50, help="clients that ask at the same moment")
    options = parser.parse_args()
    standings = list(soak(options.jobs, options.opens, options.clients, print))
    drift = standings[1].drift(standings[-1])
    print("drift since the second round: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in drift.items()))


def soak(jobs: int, opens: int, clients: int, say: Callable[[str], None] = lambda _: None) -> Iterator[Standing]:
    """Run the rounds and yield what the process holds after each."""
    from pipelines.engine.proxy import EngineProcess
    from pipelines.settings import load
    from pipelines.studio.studio import Studio
    from tests.tiny import tiny_sd
    from ui import shell
    from ui.server.launch import launch

    with tempfile.TemporaryDirectory() as folder:
        models = [tiny_sd(Path(folder) / "models" / name) for name in ("one", "two")]
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "cache")
        settings = load(["--data-dir", folder, "--model", str(models[0]), "--model-dir", str(Path(folder) / "models")],
                        {})
        studio = Studio(settings, start=EngineProcess)
        running = launch(shell.build(studio), settings, port=0)
        try:
            for number in range(ROUNDS):
                begin, cpu = time.perf_counter(), time.process_time()
                failed = _jobs(studio, [card.name for card in studio.collection.cards()], jobs // ROUNDS, number)
                _open(running.url, opens // ROUNDS)
                answered = _ask_together(running.url, clients // ROUNDS or 1)
                standing = Standing.now()
                say(f"round {number + 1}: {standing.memory / 2**20:.0f} MB, {standing.threads} threads, "
                    f"{standing.files} files, {time.perf_counter() - begin:.0f} s ({time.process_time() - cpu:.0f} s "
                    f"CPU); {jobs // ROUNDS} jobs, {failed} of them refused or failed on purpose, {opens // ROUNDS} "
                    f"opens, {answered} clients answered")
                yield standing
        finally:
            running.close()
            studio.close()


def _jobs(studio: Any, models: list[str], count: int, number: int) -> int:
    """Run mixed jobs one after the other; returns how many failed."""
    from PIL import Image

    from pipelines.errors import StudioError
    from pipelines.requests import TASKS as REQUESTS
    from pipelines.requests import make

    failed = 0
    for place in range(count):
        task, side = TASKS[place % len(TASKS)], 64 + 8 * (place % 5)
        values = {"prompt": f"a red cat {place}", "steps": 2 + place % 2, "seed": place, "batch_size": 1 + place % 2,
                  "model": models[place // 4 % len(models)], "width": side, "height": side}
        if task != "txt2img":
            values["image"] = studio.images.add(Image.new("RGB", (side, side), (place % 256, number, 0))).id
        if task == "inpaint":
            values["mask"] = studio.images.add(Image.new("L", (side, side), 255), "mask").id
        if task == "upscale":
            values |= {"width": None, "height": None, "scale": 1.5, "tile": 64}
        if place % 7 == 3:
            values["prompt"] += " <lora:missing:1>"
        if place % 11 == 5:
            values["model"] = "no such model"
        try:
            caller = Caller(page=f"page {place % 9}", owner=f"owner {place % 3}")
            job = studio.submit(make(REQUESTS[task], **values), caller)
            if place % 13 == 6:
                job.stop()
            for _ in job.follow():
                pass
            job.wait(600)
        except StudioError:
            failed += 1
    return failed


def _open(url: str, count: int) -> None:
    """Open the page as a browser begins to: the page itself and its configuration."""
    import httpx

    def once(_: int) -> None:
        with httpx.Client(base_url=url, timeout=600) as client:
            client.get("").raise_for_status()
            client.get("config").raise_for_status()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(once, range(count)))


def _ask_together(url: str, count: int) -> int:
    """Let clients ask for a picture at one moment; returns how many got an answer, a refusal included."""
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    def once(number: int) -> bool:
        client = Client(url, verbose=False, httpx_kwargs={"timeout": 600})
        try:
            client.predict(prompt="a cat", steps=2, width=64, height=64, seed=number, api_name="/txt2img")
        except AppError:  # the queue is full
            pass
        finally:
            client.close()
        return True

    with ThreadPoolExecutor(max(1, count)) as pool:
        return sum(pool.map(once, range(count)))


if __name__ == "__main__":
    main()
