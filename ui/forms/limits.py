"""What the page shows of a model's limits: controls it does not take, tasks it cannot do, memory it will need."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import gradio as gr

from pipelines.errors import StudioError
from pipelines.library.read.card import ModelCard
from pipelines.requests import extra_of
from pipelines.studio.limits import unused, why_not
from pipelines.studio.studio import Studio

from ..tab import Form, Page
from ..wiring import QUIET
from .controls import find_card

ASKED = ("width", "height", "batch_size", "guidance_scale")  # what the memory depends on


def wire(studio: Studio, page: Page) -> None:
    """Follow the model picker on every form, and say the memory that the form's settings need."""
    forms = [form for form in page.forms.values() if form.task != "upscale"]  # it may enlarge without the model
    boxes = [box for form in forms for box in (form.generate, *form.fields.values())]
    shown = gr.Textbox(_limits(studio, forms, page.model.value), label="limits shown", visible=False)

    def follow(name: str, before: str) -> list:
        limits = _limits(studio, forms, name)
        if limits == before:
            return [gr.skip()] * (len(boxes) + 1)
        card = find_card(studio, name)
        own = studio.resolver.defaults(card.name)
        return [limits, *(update for form in forms for update in _updates(form, card, own))]

    page.model.change(follow, [page.model, shown], [shown, *boxes], **QUIET)
    page.returning.append((follow, [page.model, shown], [shown, *boxes]))
    for form in forms:
        if form.need is not None:
            asked = [page.model, *(form.fields[name] for name in ASKED)]
            gr.on([box.change for box in asked], _say(studio), asked, form.need, trigger_mode="always_last", **QUIET)
            page.returning.append((_say(studio), asked, [form.need]))


def _limits(studio: Studio, forms: list[Form], name: str | None) -> str:
    """A text that differs between two models of which one takes what the other does not."""
    card = find_card(studio, name)
    lines = [f"{why_not(card, form.task)} {' '.join(unused(card, form.request, form.task))}" for form in forms]
    return "\n".join([*lines, f"{card.sampler} {card.schedule}" if any(line.strip() for line in lines) else ""])


def _updates(form: Form, card: ModelCard, own: Mapping[str, object]) -> list:
    """For the Generate button and each control: whether it can be used, and its only value where it cannot."""
    reason = why_not(card, form.task)
    left_out = unused(card, form.request, form.task)
    updates = [gr.update(value=reason or "Generate", interactive=not reason)]
    for name in form.fields:
        info = form.request.model_fields.get(name)
        plain = own.get(name, info.default) if info else None
        if name not in left_out:
            is_hidden = info is not None and extra_of(info)["kind"] in ("picture", "mask")
            updates.append(gr.skip() if is_hidden else gr.update(interactive=True))
        elif not extra_of(form.request.model_fields[name])["has_neutral"]:
            updates.append(gr.update(interactive=False))
        else:
            updates.append(gr.update(interactive=False, value="" if plain is None else plain))
    return updates


def _say(studio: Studio) -> Callable[..., str | dict]:
    def say(model: str, width: float | None, height: float | None, batch_size: float | None,
            guidance: float | None) -> str | dict:
        if not (width and height and batch_size):  # a number is being typed
            return gr.skip()
        try:
            return studio.memory.need(find_card(studio, model).name, int(width), int(height), int(batch_size),
                               (guidance or 0) > 1)
        except StudioError as error:  # a setting of the start that this machine cannot follow
            return str(error)

    return say
