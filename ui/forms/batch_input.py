"""Many at once: prompts from a file, and a batch of uploaded pictures. Generate then makes all of them, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.errors import RequestError
from pipelines.images.files import SUFFIXES
from pipelines.requests import Request
from pipelines.studio.studio import Studio
from pipelines.sweeps.series import MAX_PICTURES, MAX_TEXT, prompts_in, unused_in

from ..tab import Form
from ..wiring import QUEUED, QUIET, guarded

Box = gr.Textbox | gr.File


@dataclass(frozen=True)
class Many:
    """boxes: "prompts" (text) and, where a form starts from a picture, "pictures" (uploaded files)."""

    boxes: dict[str, Box] = field(default_factory=dict)

    def prompts(self, values: Mapping[str, Any], cls: type[Request]) -> list[dict[str, object]]:
        """The prompts that are asked for. Raises RequestError for too much text."""
        return prompts_in(values["prompts"] or "", cls)

    def pictures(self, studio: Studio, values: Mapping[str, Any]) -> list[str]:
        """Store the uploaded pictures and return their ids. Raises RequestError naming one that cannot be used."""
        files = values.get("pictures") or []
        if len(files) > MAX_PICTURES:
            raise RequestError(f"Pictures: {len(files)} are too many. At most {MAX_PICTURES}.", "image")
        found = []
        for file in map(Path, files):
            try:
                found.append(studio.images.add(file).id)
            except RequestError as error:
                raise RequestError(f"{file.name[:60]}: {error}", "image") from None
        return found


def many(form: Form, with_pictures: bool = False) -> Many:
    """Build the accordion, with a line that says what it amounts to."""
    task = form.task
    with gr.Accordion("Many at once", open=False, elem_classes="more", elem_id=f"{task}-many"):
        prompts = gr.Textbox("", label="Prompts", lines=3, max_lines=10, elem_id=f"{task}-many-prompts",
                             placeholder="One prompt a line",
                             info="Each becomes a picture, with the settings of this page. Longer ones are parted by "
                                  "empty lines, and may have a line 'Negative prompt:' or a picture's own settings, "
                                  "which begin with 'Steps:'. "
                                  "The prompt above is not used then.")
        form.keep("many-prompts", prompts)
        upload = gr.UploadButton("Read prompts from a file", size="sm", file_types=[".txt"], type="filepath",
                                 elem_id=f"{task}-many-file")
        boxes: dict[str, Box] = {"prompts": prompts}
        if with_pictures:
            boxes["pictures"] = gr.File(label="Pictures (64 MB together at most)", file_count="multiple",
                                        file_types=list(SUFFIXES), type="filepath", height=140,
                                        elem_id=f"{task}-many-pictures")
        line = gr.Textbox("", label="What this makes at once", show_label=False, container=False, interactive=False,
                          max_lines=4, elem_classes="line", elem_id=f"{task}-many-line")

    def read(file: str) -> str:
        if Path(file).stat().st_size > 4 * MAX_TEXT:
            raise RequestError(f"Prompts: the file has more than {MAX_TEXT:,} characters.", "prompts")
        text = Path(file).read_bytes().decode("utf-8-sig", "replace")
        prompts_in(text, form.request)
        return text

    def tell(batch_size: int | None, batch_count: int | None, text: str, files: list | None = None) -> str:
        try:
            asked, unused = len(prompts_in(text or "", form.request)), unused_in(text or "", form.request)
        except RequestError as error:
            return str(error)
        if not asked and not files:
            return ""
        count = max(1, asked) * max(1, len(files or [])) * (batch_size or 1) * (batch_count or 1)
        return "\n".join([f"Generate makes {count:g} {'picture' if count == 1 else 'pictures'}.", *unused])

    upload.upload(guarded(read), upload, prompts, **QUEUED)
    counted = [form.fields["batch_size"], form.fields["batch_count"], *boxes.values()]
    gr.on([box.change for box in counted], tell, counted, line, trigger_mode="always_last", **QUIET)
    return Many(boxes)
