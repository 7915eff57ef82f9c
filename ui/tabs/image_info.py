"""Image info: what a picture file tells about how it was made."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import gradio as gr

from pipelines import metadata
from pipelines.requests import TASKS, Request, Txt2Img
from pipelines.studio.studio import Studio

from ..forms import source
from ..language import said
from ..results.panel import SEND_LABELS
from ..run import allowed
from ..tab import Page, Receiver, Tab
from ..wiring import QUEUED, QUIET, guarded

NOTHING = metadata.Parsed({}, {}, ())
CLASSES: tuple[type[Request], ...] = (Txt2Img, *TASKS.values())
TITLES = {name: info.title or name for cls in CLASSES for name, info in cls.model_fields.items()}
HEADERS = ("Setting", "Value")
MAX_SHOWN_TEXT = 20_000  # characters of one text; a hostile file may hold megabytes


def build(studio: Studio, page: Page) -> None:
    """Build the tab inside the current Blocks."""
    with gr.Row(elem_classes="workspace info"):
        with gr.Column(elem_classes="given", min_width=0):
            given = source.picture("image_info", "Picture")
            with gr.Row(elem_classes="send"):
                gr.Markdown("Send to", elem_classes="send-label")
                send = {name: gr.Button(label, size="sm", min_width=60, elem_id=f"image_info-send-{name}")
                        for name, label in SEND_LABELS.items() if name != "image_info"}
        with gr.Column(elem_classes="results", min_width=0):
            parameters = gr.Textbox("", label="Settings", lines=6, max_lines=30, interactive=False, buttons=["copy"],
                                    elem_id="image_info-parameters",
                                    placeholder="Drop a picture to see the settings it was made with.")
            fields = gr.Dataframe(headers=list(HEADERS), datatype="str", interactive=False, wrap=True,
                                  column_widths=["36%", "64%"], label="As this page reads them", visible=False,
                                  elem_id="image_info-fields")
            unknown = gr.Textbox("", label="Not used here", lines=1, max_lines=40, interactive=False, visible=False,
                                 elem_id="image_info-unknown")
            others = gr.Textbox("", label="Other texts in the file", lines=2, max_lines=12, interactive=False,
                                visible=False, elem_id="image_info-others")
    path = gr.State("")
    infotext = gr.State(NOTHING)
    outputs = [*given.outputs, parameters, fields, unknown, others, path, infotext]

    def read(file: str) -> dict:
        update = given.take(studio, file)
        found = metadata.read_any(Path(file), allowed(studio))
        found = replace(found, parsed=studio.collection.settle(found.parsed))
        return {**update, path: file, infotext: found.parsed, **tell(metadata.read(Path(file)) or "", found)}

    def tell(text: str, found: metadata.Found) -> dict:
        parsed = found.parsed
        left = unused(parsed)
        rest = [f"{name}: {value[:MAX_SHOWN_TEXT]}" for name, value in found.raw.items() if value != text]
        says = text[:MAX_SHOWN_TEXT] or said(f"Made with {found.tool}; its settings are read below." if found.tool else
                                             found.nothing)
        table = {"headers": [said(name) for name in HEADERS],
                 "data": [[said(title), value] for title, value in rows(parsed.fields, parsed.implied)]}
        return {parameters: says, fields: gr.Dataframe(table, visible=bool(parsed.fields)),
                unknown: gr.Textbox("\n".join(left)[:MAX_SHOWN_TEXT], visible=bool(left)),
                others: gr.Textbox("\n".join(rest)[:MAX_SHOWN_TEXT], visible=bool(rest))}

    def forget() -> dict:
        return {**given.empty(), path: "", infotext: NOTHING, parameters: "", fields: gr.Dataframe(visible=False),
                unknown: gr.Textbox(visible=False), others: gr.Textbox(visible=False)}

    given.upload.upload(guarded(read), given.upload, outputs, **QUEUED)
    given.view.clear(forget, None, outputs, **QUIET)
    page.receivers["image_info"] = Receiver(read, outputs)
    for name, button in send.items():
        page.senders.append((button, name, [path, infotext], lambda file, text: (file, text)))


def unused(parsed: metadata.Parsed) -> list[str]:
    """List what is not taken over: sentences first, then entries that are no setting here, each named once."""
    notes, entries = metadata.merge(parsed.unknown, parsed.notes)
    return [said(line) for line in (*notes, *entries)]


def rows(fields: Mapping[str, object], implied: Collection[str] = ()) -> list[list[str]]:
    """List settings by the names and in the order of the page; blank ones and those of `implied` are left out."""
    other = "strength" if "hires_scale" in fields else "hires_strength"  # one key of the text stands for either
    known = {title: fields[name] for name, title in TITLES.items()
             if fields.get(name) not in (None, "") and name != other and name not in implied}
    return [[title, (f"{value:g}" if isinstance(value, float) else str(value))[:MAX_SHOWN_TEXT]]
            for title, value in known.items()]


TAB = Tab(name="image_info", label="Image info", order=80, build=build)
