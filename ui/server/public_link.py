"""The public link while it is open: how long it stays, who ends it, and what a page says of it."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable

import gradio as gr

from pipelines.errors import StudioError

from ..language import said
from ..visitors import asking
from ..wiring import QUEUED, guarded
from .sharing import Link, close_tunnel

log = logging.getLogger(__name__)

ENDED = "The public link was ended. Only this machine and its network reach the page now."
EXPIRED = "The public link was ended, because its time is over. Start the app again to open another."
CARRIED = "Pictures carry their prompt and seed."
DIED = "The public link is down: the share program ended. Start the app again to open another."

Look = tuple[gr.Row, str, gr.Button]  # of the banner's parts


class PublicLink:
    """The link of a server, or none. A thread waits for the share program, and ends the link when its time is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._until = ""
        self.over = ""  # why there is none any more

    @property
    def url(self) -> str:
        """The address while the link is open, else ""."""
        link = self._link
        return link.url if link else ""

    def opened(self, link: Link, hours: float) -> None:
        """Take over a link that was opened, for so many hours."""
        self._link, self.over = link, ""
        self._until = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + 3600 * hours))
        threading.Thread(target=self._watch, args=(link, link.tunnel.proc, 3600 * hours), name="public-link",
                         daemon=True).start()

    def end(self, why: str = ENDED) -> bool:
        """Close the link; returns whether it was open."""
        with self._lock:
            link, self._link = self._link, None
            if link is None:
                return False
            self.over = why
        close_tunnel(link)
        return True

    def line(self) -> str:
        """What the page says: that others can reach it, or why they cannot any more; "" where nobody ever could."""
        if self.url:
            return " · ".join((f"Others can reach this page until {self._until}: {self.url}", CARRIED))
        return self.over

    def _watch(self, link: Link, process: subprocess.Popen, seconds: float) -> None:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.end(EXPIRED)
            return
        if self._link is link and self.end(DIED):
            log.warning("%s", DIED)


def banner(link: PublicLink) -> tuple[list[gr.blocks.Block], Callable[[], Look]]:
    """Build the banner, out of sight until there is a link; returns its parts, and what says how they look now."""
    with gr.Row(visible=False, elem_classes="level banner", elem_id="public-banner") as row:
        line = gr.Textbox("", label="Public link", show_label=False, container=False, interactive=False, max_lines=3,
                          elem_classes="line strong", elem_id="public-line", scale=4)
        end = gr.Button("End the public link", size="sm", min_width=120, elem_id="public-end", visible=False)

    def shown() -> Look:
        text = link.line()
        return gr.Row(visible=bool(text)), text, gr.Button(visible=bool(link.url) and asking().is_owner)

    def ended() -> Look:
        if not asking().is_owner:
            raise StudioError("Only the owner of the page can end its public link.")
        link.end()
        row, text, button = shown()
        return row, said(text), button

    end.click(guarded(ended), None, [row, line, end], **QUEUED)
    return [row, line, end], shown
