"""Again with ...: what may be changed of a finished picture with one click. Its own settings and seed stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import gradio as gr

from pipelines.generation.samplers import SAMPLERS, schedules_for
from pipelines.requests import MAX_SEED, MAX_SIDE, Request, Txt2Img, Upscale, extra_of

HIRES_SCALE = 2.0
MORE_STEPS = 1.5
VARIATION = 0.15
MAX_STEPS = 150


@dataclass(frozen=True)
class Again:
    """change: (the picture's settings, the form's values) -> what becomes different."""

    label: str
    change: Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]]
    only: type[Request] | None = None


def _larger(said: dict[str, Any], form: Mapping[str, Any]) -> dict[str, Any]:
    """The form says how the second pass is made; a scale that is not set there is 2, or what is possible."""
    own = {name: form[name] for name in Txt2Img.model_fields if name.startswith("hires_") and name in form}
    wanted = own["hires_scale"] if own.get("hires_scale", 1) > 1 else HIRES_SCALE
    return {**own, "hires_scale": max(1.0, min(wanted, MAX_SIDE / max(said["width"], said["height"])))}


def _other_sampler(said: dict[str, Any], form: Mapping[str, Any]) -> dict[str, Any]:
    names = list(SAMPLERS)
    other = names[(names.index(said["sampler"]) + 1) % len(names)] if said["sampler"] in names else names[0]
    fits = said["schedule"] in schedules_for(other)
    return {"sampler": other, "schedule": said["schedule"] if fits else "Automatic"}


CHANGES: dict[str, Again] = {
    "hires": Again("Hires fix", _larger, only=Txt2Img),
    "seed": Again("Next seed", lambda said, form: {"seed": (said["seed"] + 1) % (MAX_SEED + 1)}),
    "steps": Again("More steps", lambda said, form: {"steps": min(MAX_STEPS, ceil(said["steps"] * MORE_STEPS))}),
    "sampler": Again("Other sampler", _other_sampler),
    "variation": Again("Variation", lambda said, form: {"variation_strength": VARIATION, "variation_seed": -1}),
}


def row(task: str, cls: type[Request]) -> dict[str, gr.Button]:
    """Build the buttons of a tab's results."""
    with gr.Row(elem_classes="send"):
        gr.Markdown("Again with", elem_classes="send-label")
        return {name: gr.Button(each.label, size="sm", min_width=60, elem_id=f"{task}-again-{name}")
                for name, each in CHANGES.items() if each.only in (None, cls)}


def values(name: str, cls: type[Request], said: dict[str, Any], form: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a request: the picture's settings with one change, and of the form what no picture's text carries.

    said: by metadata.Parsed.for_task. form: values of the form's request, source picture and mask among them.
    """
    kept = {field: form[field] for field, info in cls.model_fields.items()
            if field in form and field not in said and not extra_of(info)["infotext"]}
    single = {"batch_size": 1, "batch_count": 1, "prompt_lines": False, "dynamic": "off", "styles": ()}
    free = {"width": None, "height": None} if cls is Upscale else {}
    known = {**kept, **single, **said, **free}
    return {**known, **CHANGES[name].change(known, form)}
