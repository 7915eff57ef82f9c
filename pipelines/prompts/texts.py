"""The prompts of a request: which fields hold them, and the request for each of several."""

from __future__ import annotations

from ..requests import Request, changed, fields_of


def prompt_fields(cls: type[Request]) -> tuple[str, ...]:
    """Names of the fields that hold a prompt, "prompt" first."""
    return fields_of(cls, kind="prompt")


def each(request: Request) -> tuple[Request, ...]:
    """The request once for each of its prompts. Raises RequestError for one that is too long."""
    names = prompt_fields(type(request))
    rest = tuple(getattr(request, name) for name in names[1:])
    texts = request.texts or tuple((prompt, *rest) for prompt in request.prompts)
    return tuple(changed(request, texts=(), prompt_lines=False, **dict(zip(names, text, strict=True)))
                 for text in texts)
