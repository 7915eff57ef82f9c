"""What a model can be asked for: which tasks and which fields, and why not. Imports no torch."""

from __future__ import annotations

from ..errors import RequestError
from ..families import FAMILIES
from ..library.read.card import ModelCard
from ..requests import Inpaint, Request, Upscale, extra_of, pipeline_of, task_of

TASKS = {"txt2img": "text to image", "img2img": "image to image", "inpaint": "inpainting", "upscale": "upscaling"}


def why_not(card: ModelCard, task: str) -> str:
    """Why a model cannot do a task, in a sentence; "" when it can."""
    family = FAMILIES[card.family]
    if pipeline_of(task) not in card.tasks:
        reason = "is an inpainting model" if card.inpainting else f"is {family.label}, and the library has none for it"
        return f"{card.title} cannot do {TASKS[task]}: it {reason}."
    if task == "upscale" and not family.draws_tiles:
        return f"{card.title} cannot draw new detail into tiles: it is {family.label}."
    return ""


def need_own_loop(card: ModelCard, what: str) -> None:
    """Raise RequestError for a model that the library's pipeline runs. what: the beginning of the sentence."""
    family = FAMILIES[card.family]
    if family.engine != "unet":
        known = ", ".join(each.label for each in FAMILIES.values() if each.engine == "unet")
        raise RequestError(f"Model: {what} cannot use {card.title}: it is {family.label}. Possible are {known}.",
                           "model")


def unused(card: ModelCard, cls: type[Request], task: str) -> tuple[str, ...]:
    """Fields of a request that this model's family does not take."""
    provided = FAMILIES[card.family].provides(task)
    return tuple(name for name, info in cls.model_fields.items() if extra_of(info)["needs"] not in (None, *provided))


def check(request: Request, card: ModelCard) -> None:
    """Raise RequestError for a task or a value that the model cannot follow. request: concrete."""
    family, task = FAMILIES[card.family], task_of(request)
    reason = why_not(card, task)
    if reason and getattr(request, "redraw", True):
        raise RequestError(reason, "model")
    if "own_loop" in family.provides(task) or isinstance(request, Upscale):
        return
    own = {"sampler": card.sampler, "schedule": card.schedule}
    for name in unused(card, type(request), task):
        info, value = request.__class__.model_fields[name], getattr(request, name)
        plain = own.get(name, info.default)
        extra = extra_of(info)
        # Words that are not read are told, not refused, and the seed of no variation asks for nothing.
        if value == plain or extra["depends_on"] or extra["kind"] == "prompt" or not extra["has_neutral"]:
            continue
        raise RequestError(f"{info.title}: {value} is not possible with {family.label}. Set it to {_said(plain)}.",
                           name)
    if isinstance(request, Inpaint) and request.masked_content.startswith("latent"):
        raise RequestError(f"Masked content: {request.masked_content} is not possible with {family.label}. Take fill "
                           "or original.", "masked_content")
    for name in ("width", "height"):
        side, grain = getattr(request, name), family.grain
        if side % grain:
            raise RequestError(f"{request.__class__.model_fields[name].title}: {side} is not possible with "
                               f"{family.label}. The nearest is {max(grain, round(side / grain) * grain)}.", name)


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value or "nothing")
