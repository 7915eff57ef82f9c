"""Which words of a prompt the embedded model was not taught, and which of its own are near them. Imports no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
WORD = re.compile(r"[^\W\d_]{2,}")
NO_THING = "-"  # before words that carry no picture, in near.txt
NEAR_MOST = 3
LOOKED_AT = 12  # words for which something near is sought, which takes a millisecond each
LIKENESS = 0.82  # of two spellings, by difflib: 1 is the same


@dataclass(frozen=True)
class Strange:
    """untaught: words in the prompt's order, each once. near: taught things that are nearest to them. some: taught
    things, for when none is near."""

    untaught: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    some: tuple[str, ...] = ("dog", "rocket", "house")


@dataclass(frozen=True)
class _Vocabulary:
    taught: frozenset[str]
    things: Mapping[str, str]  # a word of a thing's name or tags -> what captions call the thing
    near: Mapping[str, tuple[str, ...]]  # a word that was not taught -> things
    unsaid: frozenset[str]  # words that carry no picture


def strange(text: str, known: Iterable[str] = ()) -> Strange:
    """Say what of a plain text, without syntax, was not taught. known: texts that something else answers to."""
    vocabulary = _vocabulary()
    taught = vocabulary.taught | {word for one in known for word in _words(one)}
    said = [word for word in _words(text) if word not in vocabulary.unsaid]
    untaught = tuple(dict.fromkeys(word for word in said if not _forms(word) & taught))
    found = [thing for word in untaught[:LOOKED_AT] for thing in _near(word, vocabulary)]
    return Strange(untaught, tuple(dict.fromkeys(found))[:NEAR_MOST])


def _near(word: str, vocabulary: _Vocabulary) -> tuple[str, ...]:
    for form in _forms(word):
        if form in vocabulary.near:
            return vocabulary.near[form][:1]
    return tuple(vocabulary.things[one] for one in get_close_matches(word, vocabulary.things, n=1, cutoff=LIKENESS))


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _forms(word: str) -> set[str]:
    """A word, and what it may be the plural of."""
    forms = {word}
    for ending, stem in (("s", ""), ("es", ""), ("ies", "y"), ("ves", "f")):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            forms.add(word.removesuffix(ending) + stem)
    return forms


@cache
def _vocabulary() -> _Vocabulary:
    told = json.loads((HERE / "vocabulary.json").read_text("utf-8"))
    shorts = {name: about["short"] for name, about in told["concepts"].items()}
    shorts |= {colour: colour for colour in told["colours"]}
    things: dict[str, str] = {}
    for name, about in told["concepts"].items():
        for word in _words(" ".join([name, *about["tags"]])):
            things.setdefault(word, shorts[name])
    near: dict[str, tuple[str, ...]] = {}
    unsaid = ["style", "background", "an"]  # of captions
    for line in (HERE / "near.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, words = line.partition(":")
            if name == NO_THING:
                unsaid += words.split()
                continue
            near |= {word: (*near.get(word, ()), shorts[name]) for word in words.split()}
    others = _words(" ".join([*told["styles"], *told["colours"]]))
    return _Vocabulary(frozenset([*things, *others]), things, near, frozenset(unsaid))
