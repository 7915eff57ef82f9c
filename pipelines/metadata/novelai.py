"""NovelAI: Description, Source and a Comment of JSON, in chunks or hidden in the alpha channel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .fields import MAX_TEXT, Draft
from .literal import escape
from .names import rename
from .texts import Texts, items_of, load, plain, take, text_of

_TABLE = {"steps": "Steps", "sampler": "Sampler", "noise_schedule": "Schedule type", "scale": "CFG scale",
          "seed": "Seed", "width": "Size-1", "height": "Size-2", "strength": "Denoising strength",
          "cfg_rescale": "Guidance rescale"}
_CLIP_SKIP = "2"  # of their first models, as AUTOMATIC1111 reads these pictures
_WEIGHT_MARK = re.compile(r"(-?\d{1,3}(?:\.\d{0,4})?)?::|[{}\[\]]")
_MAX_LEVEL = 30  # nested brackets; 1.05 ** 30 is 4.3


def read(texts: Texts) -> Draft | None:
    """Read the Comment, wherever it stands."""
    data, named = _comment(texts)
    if data is None:
        return None
    prompt = _caption(data.get("v4_prompt")) or text_of(data.get("prompt")) or text_of(named.get("Description"))
    negative = _caption(data.get("v4_negative_prompt")) or text_of(data.get("uc"))
    prompt, negative = prompt[:MAX_TEXT], negative[:MAX_TEXT]
    draft = Draft("NovelAI", weighted(prompt), weighted(negative))
    if (draft.prompt, draft.negative) != (prompt, negative):
        draft.notes.append("Prompt: NovelAI's weights, {x}, [x] and 1.5::x::, were rewritten as (x:1.05).")
    escape(draft)
    if "\n" in _caption(data.get("v4_prompt")):
        draft.notes.append("Prompt: NovelAI's characters were appended as lines; their places are not known here.")
    handled = ["prompt", "uc", "v4_prompt", "v4_negative_prompt"]
    if data.get("request_type") == "PromptGenerateRequest":  # which says a strength without using it
        handled.append("strength")
    take(draft, data, _TABLE, handled)
    if source := text_of(named.get("Source")):
        draft.unknown["Source"] = source
    if "v4_prompt" not in data and "noise_schedule" not in data:
        draft.pairs["Clip skip"] = _CLIP_SKIP
    rename(draft)
    return draft


def _comment(texts: Texts) -> tuple[dict[str, Any] | None, Mapping[str, Any]]:
    """Find the Comment, a chunk of its own or part of one JSON text, and what stands beside it."""
    for one in texts.objects.values():
        inner = load(one.get("Comment"))
        data, named = (one, texts.named) if inner is None else (inner, one)
        if "sampler" in data and ("uc" in data or "v4_prompt" in data or named.get("Software") == "NovelAI"):
            return data, named
    return None, {}


def _is_caption(prompt: Any) -> bool:
    return isinstance(prompt, dict) and isinstance(prompt.get("caption"), dict)


def _caption(prompt: Any) -> str:
    """The base caption and those of the characters, a line each."""
    if not _is_caption(prompt):
        return ""
    caption = prompt["caption"]
    characters = [text_of(one.get("char_caption")) for one in items_of(caption.get("char_captions"))]
    return "\n".join(filter(None, [text_of(caption.get("base_caption")), *characters]))


def weighted(text: str) -> str:
    """Rewrite NovelAI's weights in AUTOMATIC1111's words: {x} is (x:1.05), [x] is (x:0.952), 2::x:: is (x:2).

    Parentheses mean nothing there and are escaped. Brackets need not match. Takes linear time.
    """
    out, at, braces, squares, number = [], 0, 0, 0, 1.0
    for mark in _WEIGHT_MARK.finditer(text):
        out.append(_weighted(text[at:mark.start()], number * 1.05 ** (braces - squares)))
        at = mark.end()
        if mark[0].endswith("::"):
            number = float(mark[1]) if mark[1] else 1.0
        elif mark[0] in "{}":
            braces = min(max(braces + (1 if mark[0] == "{" else -1), 0), _MAX_LEVEL)
        else:
            squares = min(max(squares + (1 if mark[0] == "[" else -1), 0), _MAX_LEVEL)
    return "".join([*out, _weighted(text[at:], number * 1.05 ** (braces - squares))])


def _weighted(text: str, weight: float) -> str:
    if not text:
        return ""
    escaped = re.sub(r"(?<!\\)([()])", r"\\\1", text)
    core = escaped.strip(" ,\n\t")
    weight = round(weight, 4)
    if not core or weight == 1:
        return escaped
    head = len(escaped) - len(escaped.lstrip(" ,\n\t"))
    return f"{escaped[:head]}({core}:{plain(weight)}){escaped[head + len(core):]}"
