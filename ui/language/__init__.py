"""The page in another language: English stands where it is used, and is turned at the edge.

A language is one table, such as de.json: English text -> its translation, with {} where a message has a name or a
number. `said` turns what the server says, into the language of the page that asked; page.py hands over what a page
always shows. Requests, metadata and saved settings stay in English. To add a language, write its table and name it in
LANGUAGES. Imports no gradio: an engine, in its own process, says words in pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import overload

LANGUAGES = {"en": "English", "de": "Deutsch"}
MAX_MESSAGE = 2_000  # characters; longer ones are no sentence of ours
ENDING = 10  # characters behind the last blank that make an ending
MAX_DEPTH = 3  # sentences within sentences
COOKIE = "atelier-language"  # what somebody chose; without it the browser's own language counts


@cache
def table(language: str) -> dict[str, str]:
    """English text -> translation; empty for English."""
    path = Path(__file__).with_name(f"{language}.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


@overload
def said(text: str, language: str | None = None) -> str: ...
@overload
def said(text: object, language: str | None = None) -> object: ...
def said(text: object, language: str | None = None) -> object:
    """A message in the language of the page whose event is running; what is no text comes back as it is."""
    language = language or current()
    if language == "en" or not isinstance(text, str):
        return text
    return "\n".join(" · ".join(_message(part, language) for part in line.split(" · "))
                     for line in text.split("\n"))


def said_reason(reason: str) -> str:
    """Turn why a picture is not as it should be: a phrase, or a conversion's sentence without field and full stop."""
    turned = said(reason)
    if turned != reason:
        return turned
    whole = said(sentence := f"Picture: {reason}.")
    return reason if whole == sentence else whole.partition(": ")[2].removesuffix(".")


def speaker(language: str) -> Callable[[str], str]:
    """`said` in one language, for what goes on when the event that asked is over."""
    return lambda text: said(text, language)


def named(values: Iterable[str]) -> list[tuple[str, str]]:
    """Choices for a list: some of the names are ours, and all values stay as they are."""
    return [(said(value), value) for value in values]


def current() -> str:
    """The language of the page whose event is running."""
    from gradio.context import LocalContext

    request = LocalContext.request.get(None)
    return "en" if request is None else language_of(request.cookies, request.headers)


def language_of(cookies: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """The language of who sends a request: what was chosen, else what the browser asks for."""
    wanted = [cookies.get(COOKIE, ""), *headers.get("accept-language", "").split(",")]
    short = (each.strip().partition(";")[0].partition("-")[0].lower() for each in wanted)
    return next((each for each in short if each in LANGUAGES), "en")


@lru_cache(maxsize=2048)
def _message(text: str, language: str, depth: int = 0) -> str:
    """Find the sentence that a message was made from, and put what stands in it into the other language's one."""
    found = table(language)
    if text in found or depth == MAX_DEPTH or len(text) > MAX_MESSAGE:
        return found.get(text, text)
    for pieces, translation in _sentences(language):
        if parts := _parts(text, pieces):
            first, *between = translation.split("{}")
            parts = [_message(part, language, depth + 1) for part in parts]
            return first + "".join(part + words for part, words in zip(parts, between, strict=True))
    return text


@cache
def _sentences(language: str) -> tuple[tuple[list[str], str], ...]:
    """(what stands around the blanks, translation) of every sentence with blanks.

    The longest first; before them those with an ending of words, because other sentences stand in their blanks.
    """
    found = [(english.split("{}"), translation) for english, translation in table(language).items() if "{}" in english]
    return tuple(sorted(found, key=lambda pair: (len(pair[0][-1]) < ENDING, -sum(map(len, pair[0])))))


def _parts(text: str, pieces: list[str]) -> list[str]:
    """What fills the blanks between the pieces; empty when the text is no such sentence. Takes linear time."""
    first, *between, last = pieces
    at, end = len(first), len(text) - len(last)
    if not (text.startswith(first) and text.endswith(last)):
        return []
    parts = []
    for piece in between:
        found = text.find(piece, at + 1, end)
        if found < 0:
            return []
        parts.append(text[at:found])
        at = found + len(piece)
    return [*parts, text[at:end]] if at < end else []
