"""The right side of a tab: one large picture, a strip of thumbnails under it, and what can be done with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr
from gradio.processing_utils import save_file_to_cache, save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from pipelines.errors import StudioError
from pipelines.events import Record
from pipelines.requests import TASKS
from pipelines.studio.studio import Studio

from ..language import said
from ..visitors import owner_of, page_of
from ..wiring import QUEUED, QUIET, alive, guarded
from . import compare
from . import rerun as again
from .compare import Comparison

THUMBNAIL_SIDE_PX = 256
STRIP_LENGTH = 60  # this run's pictures, all of them, then earlier ones of today
SEND_LABELS = {"txt2img": "Text to image", "img2img": "Image to image", "inpaint": "Inpaint",
               "upscale": "Upscale",
               "image_info": "Image info"}
Lines = tuple[gr.Textbox, gr.HTML, gr.Textbox]  # where a run reports: status, bar, notices


@dataclass(frozen=True)
class Shown:
    """A finished picture as the page shows it. path and thumbnail lie in Gradio's cache, where a page may read.

    key: tells pictures apart: the record's id, or the path of one that could not be saved. saved: the record's file.
    """

    cached: str
    small: str
    infotext: str
    caption: str
    seed: int
    key: str
    saved: Path | None = None

    @property
    def path(self) -> str:
        self._bring_back()
        return self.cached

    @property
    def thumbnail(self) -> str:
        self._bring_back()
        return self.small

    def _bring_back(self) -> None:
        """Copy the file once more when it is gone: the cache forgets after a day, and a page may be open longer."""
        if self.saved is None or all(Path(each).exists() for each in (self.cached, self.small)):
            return
        if self.saved.exists():  # the copies have the names of before: these are made from what is in them
            cache = get_upload_folder()
            _thumbnail(save_file_to_cache(self.saved, cache), cache)

    @classmethod
    def of(cls, record: Record) -> Shown:
        """Copy the saved file, with its text, to where the page may read it."""
        cache = get_upload_folder()
        path = (save_file_to_cache(record.path, cache) if record.path is not None
                else save_pil_to_cache(record.image, cache, format="png"))
        caption = said("grid") if record.is_grid else str(record.seed)
        return cls(path, _thumbnail(path, cache), record.infotext, caption, record.seed, record.id or path, record.path)


def _thumbnail(path: str, cache: str) -> str:
    with Image.open(path) as image:
        if max(image.size) <= THUMBNAIL_SIDE_PX:
            return path
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX))
    return save_pil_to_cache(small, cache, format="webp")


def joined(made: list[Shown], earlier: list[Shown]) -> list[Shown]:
    """This run's pictures first, then the earlier ones, none of them twice."""
    keys = {each.key for each in made}
    return (made + [each for each in earlier if each.key not in keys])[:max(STRIP_LENGTH, len(made))]


def today(studio: Studio, visitor: str, task: str) -> list[Shown]:
    """This visitor's pictures of today, newest first; files that are gone are left out."""
    owner = owner_of(visitor)
    if not owner:  # nobody in particular owns nothing; the studio would list everybody's
        return []
    records = [record for record in studio.results.today(owner) if record.task == task][:STRIP_LENGTH]
    return [Shown.of(record) for record in records if record.path is not None and Path(record.path).exists()]


@dataclass
class Panel:
    """The results of a tab, and the status lines of its left side.

    shown: state, the list of `Shown` in the strip. selected: state, which of them is the large picture.
    """

    task: str
    status: gr.Textbox
    bar: gr.HTML
    notices: gr.Textbox
    picture: gr.Image
    empty: gr.Column
    strip: gr.Gallery
    download: gr.DownloadButton
    infotext: gr.Textbox
    shown: gr.State
    selected: gr.State
    delete: gr.Button
    comparison: Comparison
    send: dict[str, gr.Button] = field(default_factory=dict)
    again: dict[str, gr.Button] = field(default_factory=dict)

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        """What a run may change."""
        return [self.status, self.bar, self.notices, self.picture, self.empty, self.strip, self.download, self.delete,
                self.infotext, self.shown, self.selected, *self.comparison.outputs]

    def show(self, shown: list[Shown], selected: int) -> dict:
        """Fill the strip and make one of its pictures the large one."""
        if not shown:
            return {self.strip: [], self.shown: [], self.selected: 0, self.picture: None, self.infotext: "",
                    self.download: gr.DownloadButton(value=None, interactive=False),
                    self.delete: gr.Button(interactive=False),
                    self.empty: gr.Column(visible=True)}
        strip = gr.Gallery([(each.thumbnail, each.caption) for each in shown], selected_index=selected)
        return {self.strip: strip, self.shown: shown, self.empty: gr.Column(visible=False),
                **self.select(shown, selected)}

    def select(self, shown: list[Shown], index: int) -> dict:
        """Make one picture of the strip the large one."""
        if not 0 <= index < len(shown):
            return {self.selected: 0}
        return {self.picture: shown[index].path, self.infotext: shown[index].infotext, self.selected: index,
                self.download: gr.DownloadButton(value=shown[index].path, interactive=True),
                self.delete: gr.Button(interactive=True), **self.uncovered()}

    def uncovered(self) -> dict:
        """Take the slider that compares two pictures away."""
        return self.comparison.closed()


def panel(task: str, lines: Lines, fill_empty: Callable[[], object]) -> Panel:
    """Build the right side of a tab. fill_empty: builds what an empty result area shows."""
    with gr.Column(elem_classes="stage", min_width=0):
        picture = gr.Image(label="Picture", show_label=False, interactive=False, format="jpeg", type="filepath",
                           buttons=["fullscreen"], elem_classes="picture", elem_id=f"{task}-picture",
                           alt_text="The selected picture, or a preview of the one being made")
        slider = compare.slider(task)
        with gr.Column(elem_classes="empty", min_width=0) as empty:
            fill_empty()
    strip = gr.Gallery(label="Pictures of today", show_label=False, columns=8, rows=1, allow_preview=False,
                       object_fit="contain", buttons=[], elem_classes="strip", elem_id=f"{task}-strip",
                       type="filepath", interactive=False)
    with gr.Row(elem_classes="send"):
        gr.Markdown("Send to", elem_classes="send-label")
        send = {name: gr.Button(label, size="sm", min_width=60, elem_id=f"{task}-send-{name}")
                for name, label in SEND_LABELS.items() if name != task}
        comparison = compare.buttons(task, slider)
        download = gr.DownloadButton("Download", size="sm", min_width=60, interactive=False,
                                     elem_id=f"{task}-download")
        delete = gr.Button("Delete", size="sm", min_width=60, interactive=False, elem_id=f"{task}-delete")
    again_with = again.row(task, TASKS[task])
    infotext = gr.Textbox("", label="Settings of this picture", lines=3, max_lines=3, interactive=False,
                          buttons=["copy"], elem_classes="infotext", elem_id=f"{task}-infotext")
    made = Panel(task, *lines, picture, empty, strip, download, infotext, gr.State([]), gr.State(0), delete,
                 comparison, send, again_with)

    def choose(shown: list[Shown], pinned: Shown | None, is_open: bool, event: gr.SelectData) -> dict:
        update = made.select(shown, event.index)
        if is_open and pinned and 0 <= event.index < len(shown):  # the pinned picture stays beside whatever is chosen
            update |= comparison.opened(pinned.path, shown[event.index].path)
        return update

    strip.select(choose, [made.shown, comparison.pinned, comparison.is_open], made.outputs, **QUIET)
    return made


def hint(text: str) -> Callable[[], gr.Markdown]:
    """What an empty result area says."""
    return lambda: gr.Markdown(text, elem_classes="hint")


# Asks first. The answer travels in the place of the visitor's id: nobody in particular owns nothing.
ASK = "(visitor, ...rest) => [confirm(atelier.word('Delete this picture and its file?')) ? visitor : '', ...rest]"


def deletable(studio: Studio, panel: Panel, visitor: gr.Textbox) -> None:
    """Let the Delete button remove the selected picture, if it is the visitor's own, from page and disk."""

    def delete(who: str, shown: list[Shown], selected: int) -> dict:
        if not who or not shown:
            return {panel.status: "Nothing was deleted."}
        if alive(studio.current(page_of(who), panel.task)):
            raise StudioError("Wait until the pictures of this run are ready, or press Stop; then delete.")
        if shown[selected].key != shown[selected].path:  # else it was never saved
            studio.results.delete(shown[selected].key, owner_of(who))
        rest = shown[:selected] + shown[selected + 1:]
        return {panel.status: "Deleted.", **panel.show(rest, max(0, min(selected, len(rest) - 1)))}

    panel.delete.click(guarded(delete), [visitor, panel.shown, panel.selected], panel.outputs, js=ASK, **QUEUED)
