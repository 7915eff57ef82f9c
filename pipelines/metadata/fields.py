"""From what a text says, in AUTOMATIC1111's words, to checked fields of a request.

Every tool's reader fills a Draft; `checked` holds it against the declarations in requests.py and turns what a
request would refuse into a note.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic.fields import FieldInfo

from ..errors import RequestError, quoted
from ..requests import MAX_PROMPT, TASKS, Request, extra_of, make

MAX_TEXT = 100_000  # characters that are read
MAX_PAIRS = 500
MAX_NAME = 200  # of a sampler, schedule or model
MAX_VALUE = 2_000  # of a value that means nothing to us and is only shown

NEGATIVE = "Negative prompt"
_IMPLIED = {"clip_skip": 1}  # what a text means that does not say it
_SAME = ("Use same sampler", "Use same scheduler", "Use same checkpoint")

_FIELDS: dict[str, tuple[type[Request], str]] = {
    key.casefold(): (cls, name) for cls in TASKS.values() for name, info in cls.model_fields.items()
    for key in (extra_of(info)["infotext"], *extra_of(info)["infotext_aliases"]) if key and key != NEGATIVE}
KEYS = {extra_of(info)["infotext"] for cls in TASKS.values() for info in cls.model_fields.values()} - {None, NEGATIVE}
_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{0,30})?([eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Parsed:
    """What a text says. fields: checked values by field name. unknown: pairs that are no parameter of ours.

    notes: sentences about what was left out and why. implied: fields that have a value because the text is silent.
    silent: what its program does where it says nothing, by field name, other than the default here.
    """

    fields: dict[str, Any]
    unknown: dict[str, str]
    notes: tuple[str, ...]
    implied: frozenset[str] = frozenset()
    silent: Mapping[str, str] = field(default_factory=dict)

    def for_task(self, cls: type[Request]) -> dict[str, Any]:
        """Every value that a text can carry for a kind of request; what this text does not say has its default."""
        carried = {name: info.default for name, info in cls.model_fields.items()
                   if name == "prompt" or extra_of(info)["infotext"]}
        return {name: self.fields.get(name, self.silent.get(name, default)) for name, default in carried.items()}


@dataclass
class Draft:
    """What a text says, not checked yet. pairs: by AUTOMATIC1111's keys, a size as Size-1 and Size-2.

    tool: the program that wrote it. unknown: what that program says in words that stand for nothing of ours. silent: as
    in Parsed.
    """

    tool: str = ""
    prompt: str = ""
    negative: str = ""
    pairs: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def known(key: str) -> bool:
    """Whether a pair of this key becomes a field."""
    return key.casefold() in _FIELDS


def checked(draft: Draft, allowed: Mapping[str, Collection[str]] | None = None) -> Parsed:
    """Check every pair as the request would.

    allowed: names that may be chosen, by field: {"model": [...], "sampler": [...]}; any other becomes a note.
    """
    notes = list(draft.notes)
    fields: dict[str, Any] = dict(_IMPLIED) if draft.pairs else {}
    said: set[str] = set()
    for name, value in {"prompt": draft.prompt, "negative_prompt": draft.negative}.items():
        value = value.encode("utf-8", "replace").decode()  # lone surrogates are no text that a request can hold
        if len(value) > MAX_PROMPT:
            notes.append(f"{Request.model_fields[name].title}: only the first {MAX_PROMPT:,} of {len(value):,} "
                         "characters were taken.")
        fields[name] = value[:MAX_PROMPT]
    unknown = dict(draft.unknown)
    for key, value in draft.pairs.items():
        cls, name = _FIELDS.get(key.casefold(), (None, ""))
        if cls is None:
            unknown[key] = value
            continue
        try:
            fields[name] = _checked(cls, name, value, (allowed or {}).get(name))
            said.add(name)
        except RequestError as error:
            notes.append(str(error))
    if "strength" in fields:  # one key for what are two fields here
        fields["hires_strength"] = fields["strength"]
    if len(unknown) > MAX_PAIRS:
        notes.append(f"Only the first {MAX_PAIRS} of {len(unknown):,} entries that are not used here are listed.")
    return Parsed(fields, {key[:MAX_NAME]: _shortened(unknown[key]) for key in list(unknown)[:MAX_PAIRS]}, tuple(notes),
                  frozenset(fields.keys() & _IMPLIED.keys() - said), draft.silent)


def _shortened(value: str) -> str:
    return value if len(value) <= MAX_VALUE else f"{value[:MAX_VALUE]}..."


def _checked(cls: type[Request], name: str, text: str, allowed: Collection[str] | None) -> Any:
    """Turn the text of one pair into the field's value, or raise RequestError."""
    info = cls.model_fields[name]
    shown = quoted(text)
    limit = next((rule.max_length for rule in info.metadata if hasattr(rule, "max_length")), MAX_NAME)
    if len(text) > limit:
        raise RequestError(f"{info.title}: {shown}... is longer than {limit:,} characters.", name)
    if allowed is not None:
        text = _spelled(text, allowed)
    if allowed is not None and text not in allowed or name == "sampler" and text == "Undefined":
        raise RequestError(f"{info.title}: {shown} is not known here.", name)
    read = {word: value for value, word in extra_of(info)["words"].items()}
    value = read.get(text, None if text in _SAME and info.default is None else _typed(info, text))
    return getattr(make(cls, **{name: value}), name)


def _spelled(text: str, allowed: Collection[str]) -> str:
    """The allowed name that a text means: as it stands, without folder and ending, in small or capital letters."""
    bare = text.replace("\\", "/").rpartition("/")[2]
    wanted = [text, text.casefold(), bare.casefold(), bare.rpartition(".")[0].casefold()]
    known = {name.casefold(): name for name in reversed(list(allowed))}
    return text if text in allowed else next((known[one] for one in wanted if one and one in known), text)


def _typed(info: FieldInfo, text: str) -> Any:
    kinds = (info.annotation, *get_args(info.annotation))
    if bool in kinds:
        return {"True": True, "False": False}.get(text, text)
    if not (int in kinds or float in kinds) or not _NUMBER.fullmatch(text):
        return text
    whole = int in kinds and text.lstrip("+-").isdecimal()
    return int(text) if whole else float(text)  # a float would lose the end of a seed of 64 bits
