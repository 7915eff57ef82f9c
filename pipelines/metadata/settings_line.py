"""The line of settings in AUTOMATIC1111's text: where it stands, and the `Key: value` pairs it consists of.

It is the last line that begins with `Steps: <number>,`, and it goes on over line breaks while a quote is open, and
where the next line begins with another key of the settings. A quoted value is taken whole, whether it is JSON or not.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from .fields import KEYS, MAX_PAIRS, known

MAX_CANDIDATES = 20  # lines that begin as settings do and are looked at, from the last on

_STEPS = re.compile(r"\s*Steps:\s*\d{1,9}\s*(,|$)", re.ASCII)
_KEY = re.compile(r"[^\S\n]*(\w[\w \-/]{0,63}):[^\S\n]*")
# An unescaped quote with the end of the line or another pair behind it.
_CLOSING = re.compile(r'(?<!\\)(?:\\\\)*"(?=[^\S\n]*(?:,[^\S\n]*\w[\w \-/]{0,63}:|,?[^\S\n]*(?:\n|\Z)))')
# A line of pairs without steps is one of settings only if a number stands where settings have one.
_NUMBERS = re.compile(r"(^|,)\s*((Steps|Seed|Clip skip|CFG scale):\s*\d|Size:\s*\d+\s*x\s*\d)", re.ASCII)
# Settings in the middle of a line: what is left of a text whose line breaks were lost.
_FLAT = re.compile(r"[^\S\n](?=Steps: \d{1,9}, (?:Sampler|Schedule type|CFG scale|Seed|Size|Model): )", re.ASCII)
# Of other programs, and of ours in lower case; they are settings, whether they become a field or not.
_OTHERS = {"Size", "Version", "Model hash", "VAE hash", "Lora hashes", "TI hashes", "RNG", "ENSD", "Hires resize",
           "First pass size"}


@dataclass(frozen=True)
class SettingsLine:
    """start, end: the lines it fills, end not among them. pairs: its settings. loose: its parts without a key, and
    what a key said that says something else later."""

    start: int
    end: int
    pairs: dict[str, str] = field(default_factory=dict)
    loose: tuple[str, ...] = ()


def find(lines: Sequence[str]) -> SettingsLine:
    """Find the settings; without any, all lines are prompt: the line is empty and stands behind them."""
    text = "\n".join(lines)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    closings = [match.end() - 1 for match in _CLOSING.finditer(text)]

    def read(at: int) -> SettingsLine:
        pairs, loose, end = _pairs(text, starts[at], closings)
        return SettingsLine(at, bisect_left(starts, end, at + 1), pairs, loose)

    found = None
    for at in [at for at, line in enumerate(lines) if _STEPS.match(line)][-MAX_CANDIDATES:]:
        line = read(at) if found is None or at >= found.end else None  # else it lies within a quote
        if line and sum(map(_is_setting, line.pairs)) >= 2:
            found = line
    if found is None:
        for at in range(len(lines) - 1, -1, -1):
            if _NUMBERS.search(lines[at]) and len((line := read(at)).pairs) >= 3:
                return line
    return found or SettingsLine(len(lines), len(lines))


def unflattened(text: str) -> str:
    """Put the line breaks back into a text that has its prompts and settings in one line."""
    matches = list(_FLAT.finditer(text))
    if not matches or any(map(_STEPS.match, text.split("\n"))):
        return text
    at = matches[-1].start()
    return f"{text[:at].replace(' Negative prompt:', chr(10) + 'Negative prompt:', 1)}\n{text[at + 1:]}"


def key_of(line: str) -> tuple[str, str]:
    """Split `Key: anything`; the key is "" where there is none."""
    key = _KEY.match(line)
    return (key[1].strip(), line[key.end():].strip()) if key else ("", line.strip())


def _is_setting(key: str) -> bool:
    return known(key) or key in _OTHERS


def _pairs(text: str, position: int, closings: list[int]) -> tuple[dict[str, str], tuple[str, ...], int]:
    """Split `Key: value, Key: "quoted, value", Key: [{"inline": "JSON"}]` from a position to the end of the settings.

    Returns the pairs, the parts that are none, and where the settings end.
    """
    pairs: dict[str, str] = {}
    loose: list[str] = []
    while position < len(text) and len(pairs) < MAX_PAIRS:
        key = _KEY.match(text, position)
        value, end = _value(text, key.end() if key else position, closings, quoted=key is not None)
        if key:
            name = key[1].strip()
            if pairs.get(name, value) != value:
                loose.append(f"{name}: {pairs[name]}")
            pairs[name] = value
        elif value:
            loose.append(value)
        position = end + 1
        if text[end:end + 1] == "\n" and not _goes_on(text, position, pairs):
            return pairs, tuple(loose), position
    if position < len(text):
        end = text.find("\n", position)
        loose.append(text[position:end if end >= 0 else len(text)].strip())
        position = end + 1 if end >= 0 else len(text)
    return pairs, tuple(filter(None, loose)), position


def _goes_on(text: str, position: int, pairs: dict[str, str]) -> bool:
    """Whether the next line has more of the settings: one of their keys, in their own letters, and not yet said."""
    key = _KEY.match(text, position)
    return key is not None and (key[1] in KEYS or key[1] in _OTHERS) and key[1] not in pairs


def _value(text: str, start: int, closings: list[int], *, quoted: bool) -> tuple[str, int]:
    """Read one value. Returns it and where its comma, line break or end of text stands."""
    if quoted and text[start:start + 1] in ('"', "[", "{"):
        value, end = _json_value(text, start)
        if value is not None:
            return value, end
        closing = bisect_left(closings, start + 1)
        if text[start] == '"' and closing < len(closings):
            end = closings[closing]
            return text[start + 1:end], _after_blanks(text, end + 1)
    end = min(at if (at := text.find(mark, start)) >= 0 else len(text) for mark in (",", "\n"))
    return text[start:end].strip(), end


def _json_value(text: str, start: int) -> tuple[str | None, int]:
    """Read a quoted string, or the inline JSON that Civitai writes; (None, -1) if no JSON value ends at a comma."""
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, -1
    after = _after_blanks(text, end)
    if text[after:after + 1] not in ("", ",", "\n"):
        return None, -1
    return value if isinstance(value, str) else text[start:end].strip(), after


def _after_blanks(text: str, at: int) -> int:
    while text[at:at + 1] in (" ", "\t", "\r"):
        at += 1
    return at
