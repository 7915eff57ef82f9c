"""From one request field to its component. What a field declares is not said again here."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import gradio as gr
from pydantic.fields import FieldInfo

from pipelines.generation.samplers import SAMPLERS, SCHEDULES
from pipelines.requests import HIRES_UPSCALERS, LANCZOS, Request, extra_of, fields_of

SEEN_AT_ONCE = 15  # choices; a longer list can be searched by typing
SLIDER_POSITIONS = 4096  # a range with more is typed, not dragged
BROWSERS_LARGEST = 2**53  # a browser's number loses digits above; what may be larger travels as text
# The fields that a model has its own values for, as `studio.defaults` names them.
MODEL_FIELDS = fields_of(Request, by_model=True)

Control = gr.Dropdown | gr.Checkbox | gr.Slider | gr.Number | gr.Textbox  # what a request's field may become


def bounds(info: FieldInfo) -> tuple[float | None, float | None]:
    """Smallest and largest allowed value. A bound that is itself excluded moves inward by one step."""
    limits = {kind: getattr(mark, kind) for mark in info.metadata for kind in ("ge", "gt", "le", "lt")
              if hasattr(mark, kind)}
    step = extra_of(info)["step"] or 0
    low = limits["gt"] + step if "gt" in limits else limits.get("ge")
    high = round(limits["lt"] - step, 9) if "lt" in limits else limits.get("le")
    return low, high


def choices_of(info: FieldInfo) -> list[str] | None:
    """What may be chosen for a field, or None for free values."""
    if get_origin(info.annotation) is Literal:
        return list(get_args(info.annotation))
    return {"sampler": list(SAMPLERS), "schedule": list(SCHEDULES), "hires_upscaler": list(HIRES_UPSCALERS),
            "upscaler": [LANCZOS]}.get(extra_of(info)["kind"])


def make_control(info: FieldInfo, name: str, elem_id: str, value: object, **overrides: Any) -> Control:
    """Choose the component by the field's type. overrides: keyword arguments of the component."""
    (low, high), step = bounds(info), extra_of(info)["step"]
    common: dict[str, Any] = {"value": value, "label": info.title, "info": info.description, "elem_id": elem_id,
                              **overrides}
    choices = common.pop("choices", None) or choices_of(info)
    if info.annotation == tuple[str, ...]:
        chosen = list(value) if isinstance(value, tuple | list) else []
        return gr.Dropdown(choices, multiselect=True, **{**common, "value": chosen})
    if choices and info.default is None and value is None:  # nothing chosen means "like the others"
        return gr.Dropdown([("Same as above", ""), *choices], filterable=len(choices) > SEEN_AT_ONCE,
                           **{**common, "value": ""})
    if choices:
        return gr.Dropdown(choices, filterable=len(choices) > SEEN_AT_ONCE, **common)
    if info.annotation is bool:
        return gr.Checkbox(**common)
    if low is not None and high is not None and value is not None and step and (high - low) / step <= SLIDER_POSITIONS:
        return gr.Slider(low, high, step=step, buttons=[], **common)
    if high is not None and high > BROWSERS_LARGEST:
        return gr.Textbox(max_lines=1, **{**common, "value": str(value)})
    if high is not None:
        number = gr.Number(minimum=low, maximum=high, step=step or 1, precision=0 if step == 1 else None, **common)
        # The request refuses what is out of bounds, in words that name the field, and beside the button.
        number.raise_if_out_of_bounds = lambda *_: None  # type: ignore[method-assign]  # of this one
        return number
    return gr.Textbox(**common)
