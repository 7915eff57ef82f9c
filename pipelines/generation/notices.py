"""What of a request is not done as it was asked for, and can be told from the request alone."""

from __future__ import annotations

from collections.abc import Iterator

from ..families import Family
from ..prompts.choices import unread
from ..prompts.grammar import without_tags
from ..prompts.texts import each, prompt_fields
from ..requests import Request, Txt2Img, task_of
from .samplers import is_earlier

SHOWN = 60  # characters of a piece of prompt that a notice repeats
MAX_PIECES = 5  # of a prompt that notices name
UNREAD = {
    "choice": "{} was drawn as typed: Wildcards and choices is off, or does not read it in this form.",
    "name": "{} was drawn as typed: Wildcards and choices is off, or there is no file of that name.",
    "variable": "{} was drawn as typed: Wildcards and choices is off, or nothing sets the variable.",
}


def unlike_asked(request: Request, family: Family) -> tuple[str, ...]:
    """Sentences about a concrete request."""
    return tuple(dict.fromkeys((*_less_than_a_step(request, family), *_drawn_elsewhere(request), *_unread(request))))


def _less_than_a_step(request: Request, family: Family) -> Iterator[str]:
    if isinstance(request, Txt2Img):
        if request.hires_scale > 1:
            yield from _share("Hires strength", request.hires_strength, request.hires_steps or request.steps)
    elif getattr(request, "redraw", True) and "strength" in family.provides(task_of(request)):
        yield from _share("Strength", request.strength, request.steps)


def _drawn_elsewhere(request: Request) -> Iterator[str]:
    if request.noise_source != "CPU" and is_earlier(request.schedule):
        yield "Noise was drawn on the CPU: the samplers of version 0.1.0 know no other."


def _share(title: str, strength: float, steps: int) -> Iterator[str]:
    if strength * steps < 1 - 1e-9:
        yield f"{title}: {strength:g} of {steps} steps is less than one step, so one step was made."


def _unread(request: Request) -> Iterator[str]:
    names = [name for name in prompt_fields(type(request))
             if not name.startswith("hires_") or request.hires_scale > 1]
    pieces = (piece for one in each(request) for name in names
              for piece in unread(without_tags(getattr(one, name))[0]))
    for kind, piece in tuple(dict.fromkeys(pieces))[:MAX_PIECES]:
        shown = piece if len(piece) <= SHOWN else f"{piece[:SHOWN]}..."
        yield UNREAD[kind].format(shown)
