"""How quick the page stays: python -m benchmarks.page [--cells 10] (needs Chromium and requirements-dev.txt)

An edit of a 4,000-character prompt on the server, and a grid of cells x cells pictures in a browser while somebody
types. Times are those of the thread that does the work, so that other programs do not count; what a person waits is
said beside them. The model is a tiny one: what is measured is the page.
"""

from __future__ import annotations

import argparse
import gc
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

from pipelines.requests import MAX_PROMPT
from pipelines.settings import load
from pipelines.studio.studio import Studio
from tests.browser import drive
from tests.browser.drive import box, fill_grid, generate, status, work_clock
from tests.tiny import tiny_sd

EDITS = 30
PROMPTS = ("a red cat, ", "(red:1.2) [cat|dog] ", "<lora:x:1> __y__ ")
WAIT_MS = 600_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10, help="values of each of two axes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_sd(Path(folder) / "models" / "tiny")
        studio = Studio(load(["--data-dir", folder, "--model", str(model)], {}))
        try:
            _edits(studio)
            _grid(studio, options.cells)
        finally:
            studio.close()


def _edits(studio: Any) -> None:
    from ui.forms.prompt_box import _looker

    look = _looker(studio)
    for words in PROMPTS:
        text = (words * MAX_PROMPT)[:MAX_PROMPT - 4]
        look(text, None)
        gc.freeze()  # as the app does when its page is built
        took = []
        for number in range(EDITS):
            begin = time.thread_time()
            look(f"{text}{number}", None)
            took.append(1000 * (time.thread_time() - begin))
        print(f"an edit of {len(text):,} characters of {words!r}: {statistics.median(took):.1f} ms, "
              f"at most {max(took):.1f}", flush=True)


def _grid(studio: Any, cells: int) -> None:
    from ui import shell
    from ui.server.launch import launch

    running = launch(shell.build(studio), studio.settings, port=0)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=drive.CHROMIUM, args=drive.ARGS)
        try:
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            drive.open_page(page, running.url)
            _measure(page, cells)
        finally:
            browser.close()
            running.close()


def _measure(page: Page, cells: int) -> None:
    fill_grid(page, cells)
    worked_s = work_clock(page)
    prompt = page.locator("#txt2img-negative_prompt textarea")
    before, idle_keys = worked_s(), _keys(page, prompt)
    idle = worked_s() - before
    begin, before = time.monotonic(), worked_s()
    generate(page, "txt2img")
    status(page, "txt2img", "^(Step|Starting)")
    keys = []
    while not re.match(r"^\d+ pictures? in", box(page, "txt2img-status").input_value()):
        keys += _keys(page, prompt)
    work = worked_s() - before - idle * len(keys) / len(idle_keys)
    print(f"a grid of {cells * cells} pictures in {time.monotonic() - begin:.0f} s: the page worked "
          f"{1000 * work / cells**2:.0f} ms a picture; a key took {1000 * statistics.median(keys):.0f} ms, at most "
          f"{1000 * max(keys):.0f} (before the run {1000 * statistics.median(idle_keys):.0f}, at most "
          f"{1000 * max(idle_keys):.0f})", flush=True)
    expect(page.locator("#txt2img-strip .thumbnail-item")).to_have_count(cells * cells + 1, timeout=WAIT_MS)


def _keys(page: Page, place: Any) -> list[float]:
    """Seconds until each of some keys stands in the box."""
    took = []
    for key in "abcde":
        begin = time.monotonic()
        place.press(key)
        page.evaluate("() => new Promise(requestAnimationFrame)")
        took.append(time.monotonic() - begin)
    return took


if __name__ == "__main__":
    main()
