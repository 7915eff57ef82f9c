"""How much work a call is, counted against other work of the same kind: a busy machine slows both down alike."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from typing import Any

LITTLE = 250  # passes: some seconds at most; what takes work in proportion to the square of a text takes thousands
PASS = json.dumps([{"key": f"value {i}", "numbers": [i, i / 7]} for i in range(2_000)])


def cpu_s(run: Callable[[], Any]) -> tuple[Any, float]:
    """What `run` gives, and the seconds of CPU time that it took this thread."""
    gc.freeze()  # what other tests left in memory is not for the collector to walk while the clock runs
    try:
        started = time.thread_time()
        result = run()
        return result, time.thread_time() - started
    finally:
        gc.unfreeze()


def passes(seconds: float) -> float:
    """Convert CPU time that was just measured to passes of a fixed piece of work, which takes about 10 ms.

    It is done for a quarter of that time, so that a moment in which the machine is busy does not decide.
    """
    done, began = 0, time.thread_time()
    while not done or time.thread_time() - began < seconds / 4:
        _one_pass()
        done += 1
    return seconds * done / (time.thread_time() - began)


def effort(run: Callable[[], Any]) -> tuple[Any, float]:
    """What `run` gives, and the passes of fixed work that it was worth."""
    result, seconds = cpu_s(run)
    return result, passes(seconds)


def _one_pass() -> None:
    """Read, sort, write and search a text of some 90 kB: what reading a stranger's text is made of."""
    rows = sorted(json.loads(PASS), key=lambda row: row["key"])
    json.dumps(rows)
    sum(len(word) for word in PASS.split(", "))
    PASS.replace('"', "'").find("nothing like this")
