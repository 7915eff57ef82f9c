"""Driving the page with Playwright. Every wait is for a fact that can be seen; nothing sleeps."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, expect

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update"]
LOCAL = re.compile(r"(https?://(127\.0\.0\.1|localhost)[:/]|data:|blob:)")
SLOW_MS = 60_000  # two busy cores
expect.set_options(timeout=SLOW_MS)


class Seen:
    """What a page must not do: script errors, console errors, requests that leave this machine."""

    def __init__(self, page: Page):
        self.errors: list[str] = []
        self.outside: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        page.on("request", lambda sent: None if LOCAL.match(sent.url) else self.outside.append(sent.url))


def open_page(page: Page, url: str) -> None:
    """Open the page and wait until it has come back to where it was: only then may one type."""
    page.goto(url, wait_until="domcontentloaded")
    settled(page)


def settled(page: Page) -> None:
    """Wait until the page's script has restored what was typed, and the answers to that are in."""
    page.wait_for_function("window.atelier?.settled()", timeout=SLOW_MS)


def open_tab(page: Page, label: str) -> None:
    tab = page.get_by_role("tab", name=label, exact=True)
    tab.click()
    expect(tab).to_have_attribute("aria-selected", "true")
    expect(page.locator(".workspace .results").locator("visible=true").first).to_be_visible()


def box(page: Page, elem_id: str) -> Locator:
    """The text box, or a slider's number, of a control."""
    return page.locator(f"#{elem_id} textarea, #{elem_id} input[type=number], #{elem_id} input").first


def generate(page: Page, task: str) -> None:
    page.locator(f"#{task}-generate").click()


def status(page: Page, task: str, pattern: str) -> None:
    """Wait until the line under Generate says something that matches."""
    expect(box(page, f"{task}-status")).to_have_value(re.compile(pattern))


def quick(page: Page, task: str = "txt2img", steps: int = 2) -> None:
    """Ask for pictures that nobody has to wait for."""
    box(page, f"{task}-steps").fill(str(steps))


def long_run(page: Page) -> None:
    """Start more pictures than anybody waits for."""
    for name, value in (("steps", "150"), ("batch_count", "16"), ("width", "256")):
        box(page, f"txt2img-{name}").fill(value)
    generate(page, "txt2img")
    status(page, "txt2img", "^Step ")


def fill_grid(page: Page, side: int) -> None:
    """Fill in a grid of side x side pictures of one step each: guidance scales across, seeds down."""
    quick(page, steps=1)
    page.locator("#txt2img-grid > button").click()
    for axis, field in (("x", "Guidance scale"), ("y", "Seed")):
        page.locator(f"#txt2img-grid-{axis} input").click()
        page.locator(f"#txt2img-grid-{axis}").get_by_role("option", name=field, exact=True).click()
        box(page, f"txt2img-grid-{axis}-values").fill(f"1-{side}")
    expect(box(page, "txt2img-grid-line")).to_have_value(re.compile(f"^{side * side} pictures"))


def work_clock(page: Page) -> Callable[[], float]:
    """Return a clock that tells how many seconds the page's thread has worked, whatever else the machine does."""
    counters = page.context.new_cdp_session(page)
    counters.send("Performance.enable", {"timeDomain": "threadTicks"})

    def worked_s() -> float:
        found = counters.send("Performance.getMetrics")["metrics"]
        return next(each["value"] for each in found if each["name"] == "TaskDuration")

    return worked_s


def choose(page: Page, task: str, file: Path) -> None:
    """Choose a source picture as the file dialog does, and wait until the server has it."""
    if task == "inpaint":
        editor_ready(page)
    page.locator(f"#{task}-source input[type=file]").first.set_input_files(str(file))
    expect(box(page, f"{task}-note")).to_have_value(re.compile(r"\d+ × \d+ px"))


def drop(page: Page, selector: str, file: Path, kind: str) -> None:
    """Drop a file on an element, as from a file manager."""
    dropped = page.evaluate_handle("""([bytes, name, type]) => {
        const files = new DataTransfer();
        files.items.add(new File([new Uint8Array(bytes)], name, { type }));
        return files;
    }""", [list(file.read_bytes()), file.name, kind])
    page.dispatch_event(selector, "dragover", {"dataTransfer": dropped})
    page.dispatch_event(selector, "drop", {"dataTransfer": dropped})


def result_bytes(page: Page, task: str) -> bytes:
    """The file behind Download: what a visitor gets."""
    with page.expect_download(timeout=SLOW_MS) as download:
        page.locator(f"#{task}-download").click()
    return Path(download.value.path()).read_bytes()


def result(page: Page, task: str) -> Image.Image:
    return Image.open(io.BytesIO(result_bytes(page, task)))


# The mask editor: a WebGL canvas, so everything goes through coordinates

EDITOR = "#inpaint-source"
EDITOR_PADDING = 30  # the widget keeps this many px free on every side when it fits a picture


def editor_ready(page: Page) -> None:
    expect(editor_tool(page, "Brush")).to_be_visible()


def picture_in(page: Page) -> None:
    """Wait until the editor has taken its picture in, which is its first step that can be undone.

    The zoom is right a little earlier, while the layers are still being made: what is painted then can be lost.
    """
    expect(editor_tool(page, "Undo")).to_be_enabled()


def editor_tool(page: Page, name: str) -> Locator:
    return page.locator(EDITOR).get_by_role("button", name=name, exact=True)


def stroke(page: Page, size: tuple[int, int], start: tuple, end: tuple, tool: str = "Brush") -> None:
    """Paint a line with the mouse. start, end: in pixels of the shown picture, whose size is given."""
    canvas = page.locator(f"{EDITOR} .pixi-target canvas")
    picture_in(page)
    canvas.scroll_into_view_if_needed()
    scale = _scale(canvas, size)
    expect(page.locator(f"{EDITOR} .zoom-number")).to_have_text(re.compile(_near(100 * scale)))
    editor_tool(page, tool).click()
    around = canvas.bounding_box()

    def place(x: float, y: float) -> tuple[float, float]:
        return (around["x"] + around["width"] / 2 + (x - size[0] / 2) * scale,
                around["y"] + around["height"] / 2 + (y - size[1] / 2) * scale)

    page.mouse.move(*place(*start))
    page.mouse.down()
    page.mouse.move(*place(*end), steps=3)  # each move costs a frame of software GL
    page.mouse.up()


def _scale(canvas: Locator, size: tuple[int, int]) -> float:
    around = canvas.bounding_box()
    return min((around[name] - 2 * EDITOR_PADDING) / side for name, side in zip(("width", "height"), size, strict=True))


def _near(percent: float) -> str:
    """The shown zoom is rounded."""
    return "|".join(rf"\b{round(percent) + step}%" for step in (-1, 0, 1))
