r"""Comments in a prompt, as AUTOMATIC1111 has them: from `#` to the end of the line. `\#` is the character itself.

They are taken out once, before anything else is read: a comment swallows no style that goes behind it, and what stands
in one (a LoRA tag, a wildcard, a line of its own) has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .grammar import TAGS

_ENDS = re.compile(r"(\r\n|\r|\n)")
# What may hold a # that begins no comment stands first.
_MARK = re.compile(rf"\\.|{TAGS.pattern}|(?P<comment>#)", re.DOTALL)


def without_comments(text: str) -> str:
    """Take comments out; a line that holds nothing else goes with its line break."""
    if "#" not in text:
        return text
    kept = []
    for line in _ENDS.split(text)[::2]:
        begin = _begin(line)
        said = line if begin is None else line[:begin].rstrip()
        if begin is None or said:
            kept.append(said)
    return "\n".join(kept)


def prompts_without_comments(prompts: Iterable[str]) -> tuple[str, ...]:
    """Take comments out of each prompt, and leave out those that were nothing else."""
    read = ((prompt, without_comments(prompt)) for prompt in prompts)
    return tuple(kept for prompt, kept in read if kept or not prompt)


def behind(prompt: str, added: str, separator: str) -> str:
    """Put text behind a prompt: on a line of its own where the last one ends in a comment."""
    prompt = prompt.strip()
    if not prompt or not added:
        return prompt or added
    between = separator if _begin(_ENDS.split(prompt)[-1]) is None else "\n"
    return f"{prompt}{between}{added}"


def blanked(text: str) -> str:
    """Put blanks in the place of comments, so that places in the text stay what they are."""
    lines = _ENDS.split(text)
    for number, line in enumerate(lines):
        begin = _begin(line)
        if begin is not None:
            lines[number] = line[:begin] + " " * (len(line) - begin)
    return "".join(lines)


def unmeant(text: str) -> list[int]:
    """Places of a # within a line that looks like a part of a word: #1, #ff0000."""
    found, start = [], 0
    for line in _ENDS.split(text):
        begin = _begin(line)
        if begin and line[:begin].strip() and line[begin + 1:begin + 2].isalnum():
            found.append(start + begin)
        start += len(line)
    return found


def _begin(line: str) -> int | None:
    """Where the comment of a line begins."""
    return next((mark.start() for mark in _MARK.finditer(line) if mark["comment"]), None)
