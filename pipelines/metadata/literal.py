"""Prompts of tools in which brackets, AND, BREAK and # mean nothing, written so that they mean nothing here."""

from __future__ import annotations

import re

from .fields import Draft

# A LoRA tag, whose name may hold brackets, and what is not escaped twice.
_MARK = re.compile(r"<\w{1,16}:[^<>\n]{0,300}>|\\[()]|[\\\[\]#|]|\b(?:AND|BREAK)\b")
_EMBEDDING = re.compile(r"\bembedding:([^\s,;:()\[\]<>|]{1,200})")
_ENDING = re.compile(r"\.(safetensors|pt|bin|ckpt)$", re.IGNORECASE)


def literal(text: str) -> str:
    r"""Put a backslash before what only our prompt language reads: `[`, `]`, `|`, `#`, AND, BREAK and a backslash.

    Round brackets weigh there as here, and `\(` is one bracket in both. `embedding:folder/name.pt` becomes its bare
    name, which stands for an embedding here.
    """
    return _MARK.sub(_escaped, _EMBEDDING.sub(_bare, text))


def escape(draft: Draft) -> None:
    """Make both prompts of a draft literal, and say so where that changed something."""
    before = draft.prompt, draft.negative
    draft.prompt, draft.negative = map(literal, before)
    if (draft.prompt, draft.negative) != before:
        note_escaped(draft)


def note_escaped(draft: Draft) -> None:
    """Say that something was written with a backslash."""
    draft.notes.append(f"Prompt: square brackets, #, AND, BREAK and embedding: are no marks in {draft.tool}, or other "
                       "ones; they were rewritten to mean the same here.")


def _escaped(mark: re.Match[str]) -> str:
    keep = mark[0].startswith("<") or len(mark[0]) == 2 and mark[0][0] == "\\"
    return mark[0] if keep else f"\\{mark[0]}"


def _bare(found: re.Match[str]) -> str:
    return _ENDING.sub("", found[1].replace("\\", "/").rpartition("/")[2])
