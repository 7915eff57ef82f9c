"""From prompts as they were typed to those that are drawn: comments, lines, styles, wildcards, in this order."""

from __future__ import annotations

from ..errors import RequestError
from ..requests import Request, changed
from .comments import without_comments
from .styles import Styles, apply
from .texts import each, prompt_fields
from .wildcards import Wildcards

MAX_IMAGES = 256  # of one job
SECOND_PASS = "hires_"  # how the names of fields begin that are read only where there is one


def spelled_out(request: Request, styles: Styles, wildcards: Wildcards) -> Request:
    """Make the prompts of a request concrete. seed: a number.

    The result has neither comments nor styles, and what the seed draws in the place of wildcards, so that infotext
    says it. Several prompts are its `texts`, one a batch. Raises RequestError for an unknown style, for wildcards that
    have no end, for prompts that become too long, and for too many of them.
    """
    names = prompt_fields(type(request))
    request = changed(request, **{name: without_comments(getattr(request, name)) for name in names})
    chosen = styles.named(request.styles)
    typed = [tuple(_with_styles(one, chosen, names)) for one in each(request)]
    if request.dynamic == "random":
        texts = [wildcards.expand_all(text, request.seed + number)
                 for number, text in enumerate(typed * request.batch_count)]
    elif request.dynamic == "all combinations":
        texts = [one for text in typed for one in _combined(request, names, text, wildcards) * request.batch_count]
    else:
        texts = typed
    if request.dynamic != "off" and len(texts) > MAX_IMAGES:
        raise RequestError(f"Wildcards and choices: more than {MAX_IMAGES} pictures are too many for one job.",
                           "dynamic")
    done = {"styles": (), "dynamic": "off", "batch_count": request.batch_count if request.dynamic == "off" else 1}
    first = changed(request, **done, texts=(), prompt_lines=False, **dict(zip(names, texts[0], strict=True)))
    if len(texts) == 1:
        return first
    several = changed(first, texts=tuple(texts))
    each(several)  # none of them is too long
    # Unchecked: each of the prompts is within the limit of one, and all of them together need not be.
    return several.model_copy(update={"prompt": "\n".join(several.prompts)})


def _with_styles(request: Request, chosen: tuple, names: tuple[str, ...]) -> list[str]:
    prompt, negative_prompt = apply(request.prompt, request.negative_prompt, chosen)
    styled = {"prompt": prompt, "negative_prompt": negative_prompt}
    return [styled.get(name, getattr(request, name)) for name in names]


def _combined(request: Request, names: tuple[str, ...], text: tuple[str, ...],
              wildcards: Wildcards) -> tuple[tuple[str, ...], ...]:
    """Every combination of a request's prompts; those of a second pass that is not made vary by the seed alone."""
    unused = getattr(request, "hires_scale", 1) <= 1
    idle = {name for name in names if unused and name.startswith(SECOND_PASS)}
    drawn = dict(zip(names, wildcards.expand_all(text, request.seed), strict=True))
    asked = [drawn[name] if name in idle else typed for name, typed in zip(names, text, strict=True)]
    return wildcards.combinations_of(asked, MAX_IMAGES + 1)
