"""What any tool wrote into a picture, or copied into the clipboard, as fields of a request.

To add a tool, write a function from Texts to Draft | None and put it into _TOOLS; the first that recognises its own
words is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from PIL import Image

from . import comfyui, fooocus, hires, invokeai, novelai, others, swarmui, webui
from .containers import MAX_CHUNKS, MAX_SHOWN, hidden_text, texts_of
from .fields import Draft, Parsed, checked
from .texts import Texts, decoded, load

# A text written to be read comes before a graph that has to be interpreted.
_TOOLS: tuple[Callable[[Texts], Draft | None], ...] = (
    webui.read, swarmui.read, invokeai.read, fooocus.read, novelai.read, others.civitai, comfyui.read,
    others.draw_things, others.easy_diffusion, webui.read_bare)
NOTHING = "This picture says nothing about how it was made."
UNKNOWN = "This picture carries texts, but of no tool that is known here."
# Where pictures keep what is no text about their making.
_NO_TEXT = {"Software", "DateTime", "ResolutionUnit", "Make", "Orientation", "HostComputer", "Artist", "Copyright"}


@dataclass(frozen=True)
class Found:
    """tool: the program that wrote it, "" for none. raw: the texts as they stand in the file, cut to be shown.

    nothing: the sentence for a person where no tool was recognised.
    """

    tool: str
    parsed: Parsed
    raw: dict[str, str]
    nothing: str = ""


def read_any(source: Image.Image | str | os.PathLike,
             allowed: Mapping[str, Collection[str]] | None = None) -> Found:
    """Read what any known tool wrote into a picture of any kind that is read.

    allowed: names that may be chosen, by field, as in `parse`. Raises RequestError for files that are no pictures.
    """
    named = texts_of(source)
    draft, notes = _recognised(named)
    if (draft is None or not draft.pairs) and (hidden := hidden_text(source)):
        inside = load(hidden)
        place = "parameters" if inside is None else "hidden in the pixels"
        named |= {place: hidden, **{key: value for key, value in (inside or {}).items() if isinstance(value, str)}}
        draft, notes = _recognised(named)
    return _found(draft, notes, named, allowed, UNKNOWN if named.keys() - _NO_TEXT else NOTHING)


def parse_any(text: str, allowed: Mapping[str, Collection[str]] | None = None) -> Found:
    """Read a pasted text: infotext, or the JSON of any known tool. Never raises."""
    if not isinstance(text, str):
        return _found(None, (), {}, allowed, "There is no text to read.")
    named = {"parameters": text}
    draft, notes = _recognised(named)
    nothing = "This is JSON, but of no tool that is known here." if text.strip() else "There is no text to read."
    return _found(draft, notes, named, allowed, nothing)


def _recognised(named: dict[str, str]) -> tuple[Draft | None, tuple[str, ...]]:
    texts = decoded(named)
    return next((draft for tool in _TOOLS if (draft := tool(texts)) is not None), None), texts.notes


def _found(draft: Draft | None, notes: tuple[str, ...], named: Mapping[str, str],
           allowed: Mapping[str, Collection[str]] | None, nothing: str) -> Found:
    raw = {key[:80]: value[:MAX_SHOWN] for key, value in list(named.items())[:MAX_CHUNKS]}
    if draft is None:
        return Found("", Parsed({}, {}, (*notes, nothing)), raw, nothing)
    draft.notes[:0] = notes
    hires.by_size(draft)
    return Found(draft.tool, checked(draft, allowed), raw)
