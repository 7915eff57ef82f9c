"""The X/Y/Z part of a form: which fields are varied, and with which values. Generate then makes the whole grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from pipelines.errors import StudioError
from pipelines.requests import Request, extra_of, fields_of
from pipelines.studio.studio import Studio
from pipelines.sweeps.grid import LORA, PROMPT, TITLES, Matrix, axis, check

from ..results.progress import duration
from ..tab import Form
from ..visitors import owner_of
from ..wiring import QUIET

NAMES = ("x", "y", "z")
WORDS = {"x": "Columns (X)", "y": "Rows (Y)", "z": "Sheets (Z)"}


@dataclass(frozen=True)
class Axes:
    """boxes: "x field", "x values" and so on -> the component."""

    boxes: dict[str, gr.Dropdown | gr.Textbox] = field(default_factory=dict)

    def matrix(self, request: Request, values: Mapping[str, Any]) -> Matrix | None:
        """The grid that is asked for, or None when no axis is chosen. Raises RequestError."""
        found = [axis(values[f"{name} field"], values[f"{name} values"] or "", type(request)) for name in NAMES]
        chosen = [one for one in found if one]
        if not chosen:
            return None
        others = [*chosen[1:], None, None]
        return Matrix(request, chosen[0], others[0], others[1])


def axes(form: Form, studio: Studio) -> Axes:
    """Build the accordion with three axes and a line that says what they amount to."""
    made = Axes()
    with gr.Accordion("Grid: compare settings (X/Y/Z)", open=False, elem_classes="more", elem_id=f"{form.task}-grid"):
        for name in NAMES:
            with gr.Row():
                made.boxes[f"{name} field"] = form.keep(f"grid-{name}", gr.Dropdown(
                    _choices(form.request), value="", label=WORDS[name], filterable=False, min_width=100, scale=2,
                    elem_id=f"{form.task}-grid-{name}", info="What changes from one picture to the next."))
                made.boxes[f"{name} values"] = form.keep(f"grid-{name}-values", gr.Textbox(
                    "", label="Values", max_lines=2, min_width=120, scale=3, elem_id=f"{form.task}-grid-{name}-values",
                    info="With commas: 10, 20, 30. Ranges: 1-5, 10-50 (+10), 0-1 [5]. For prompt text the first word "
                         "is replaced by the others, \"\" by nothing. A seed of -1 is a new one each time."))
        line = gr.Textbox("", label="What this makes", show_label=False, container=False, interactive=False,
                          max_lines=2, elem_classes="line", elem_id=f"{form.task}-grid-line")

    costly = {name: form.fields[name] for name in fields_of(form.request, timed=True) if name in form.fields}

    def tell(visitor: str, *values: Any) -> str:
        found = dict(zip([*costly, *made.boxes], values, strict=True))
        typed = {name: found.pop(name) for name in costly}
        try:
            base = form.request(**{name: value for name, value in typed.items() if value not in (None, "")})
            matrix = made.matrix(base, found)
            if matrix is None:
                return ""
            if not any(one.field in (PROMPT, LORA) for one in matrix.axes):  # the prompt may still be typed
                check(matrix)
            seconds = studio.forecast((cell for _, cell in matrix.cells()), owner_of(visitor))
        except (StudioError, ValueError) as error:
            return str(error) if isinstance(error, StudioError) else ""
        columns, rows, sheets = matrix.shape
        time = f", about {duration(seconds)}" if seconds else ""
        return f"{len(matrix)} pictures ({columns} x {rows} on {sheets} {'sheet' if sheets == 1 else 'sheets'}){time}."

    gr.on([box.change for box in made.boxes.values()], tell,
          [form.page.visitor, *costly.values(), *made.boxes.values()], line, trigger_mode="always_last", **QUIET)
    return made


def _choices(cls: type[Request]) -> list[tuple[str, str]]:
    fields = [(info.title or name, name) for name, info in cls.model_fields.items()
              if extra_of(info)["axis_cost"] is not None]
    return [("-", ""), *((title, name) for name, title in TITLES.items()), *fields]
