"""Prompts that vary: `__name__` takes a line of a text file, `{a|b|2::c}` one of its options.

Files lie in the data folder under wildcards, `__animals/cats__` is animals/cats.txt, one option a line, `#` begins a
comment, and `2::x` makes an option twice as likely. Options may hold further names and braces. What is chosen depends
on the seed alone, so the expanded prompt can be had again.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

from lark import Lark, Token, Transformer

from ..errors import RequestError
from ..requests import MAX_PROMPT

MAX_DEPTH = 16  # braces inside braces, and names inside names
MAX_CHOICES = 1_000  # made for one prompt
MAX_FILE_BYTES = 4_000_000
MAX_COMBINATIONS = 10_000

NAME = r"__[\w\-. *\/]+?__"
GRAMMAR = rf"""
start: _any*
_any: TEXT | NAME | BAR | choice
choice: _OPEN _any* _CLOSE
NAME.2: /{NAME}/
TEXT: /(?:(?!{NAME})[^{{}}|])+/
BAR: "|"
_OPEN: "{{"
_CLOSE: "}}"
"""
WEIGHT = re.compile(r"\s*(\d{1,6}(?:\.\d{0,6})?|\.\d{1,6})\s*::")


@dataclass(frozen=True)
class Name:
    """A file of options. typed: as it stood in the prompt."""

    typed: str

    @property
    def name(self) -> str:
        return self.typed[2:-2].strip()


@dataclass(frozen=True)
class Choice:
    """One of the options, each as likely as its weight says."""

    options: tuple[tuple[float, Nodes], ...]


Nodes = tuple["str | Name | Choice", ...]


class Wildcards:
    """The files in a folder. Cheap to make: a file is read when it is first named."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._read: dict[str, tuple[tuple[float, Nodes], ...] | None] = {}

    def names(self) -> tuple[str, ...]:
        """Every name that can be written between double underscores."""
        files = sorted(self._folder.rglob("*.txt")) if self._folder.is_dir() else ()
        return tuple(file.relative_to(self._folder).with_suffix("").as_posix() for file in files)

    def has(self, name: str) -> bool:
        """Whether there is a file for a name."""
        return bool(self._files(name))

    def expand(self, text: str, seed: int) -> str:
        """Choose by the seed. A name without a file stays as it is; text without syntax comes back unchanged.

        Raises RequestError when a file names itself, or the result is longer than a prompt may be.
        """
        nodes = parse(text)
        if all(isinstance(node, str) for node in nodes):
            return text
        drawer = _Drawer(self, random.Random(seed))
        drawer.write(nodes, ())
        return "".join(drawer.written)

    def combinations(self, text: str, limit: int = MAX_COMBINATIONS) -> tuple[str, ...]:
        """Every prompt that a text can become, the last choice changing fastest; at most `limit` of them.

        Raises RequestError as `expand` does.
        """
        return tuple(islice(self._all(parse(text), ()), min(limit, MAX_COMBINATIONS)))

    def _all(self, nodes: Nodes, within: tuple[str, ...]) -> Iterator[str]:
        """Count up like an odometer: a recursion over the nodes would be as deep as the text is long."""
        if not nodes:
            yield ""
            return
        texts: list[str] = []
        turning = [self._each(nodes[0], within)]
        while turning:
            text = next(turning[-1], None)
            if text is None:
                turning.pop()
                del texts[-1:]
            elif len(turning) == len(nodes):
                yield _short_enough("".join(texts) + text)
            else:
                texts.append(text)
                turning.append(self._each(nodes[len(turning)], within))

    def _each(self, node: str | Name | Choice, within: tuple[str, ...]) -> Iterator[str]:
        match node:
            case str():
                yield node
            case Choice():
                for _, option in node.options:
                    yield from self._all(option, within)
            case Name():
                options, inner = self.enter(node, within)
                if not options:
                    yield node.typed
                for _, option in options:
                    yield from self._all(option, inner)

    def enter(self, name: Name, within: tuple[str, ...]) -> tuple[tuple[tuple[float, Nodes], ...], tuple[str, ...]]:
        """The options of a name, and the names that are open inside it. Raises RequestError when it is open already."""
        if name.name in within:
            chain = " -> ".join([*within[within.index(name.name):], name.name])
            raise RequestError(f"Prompt: the wildcard __{name.name}__ names itself ({chain[:200]}).", "prompt")
        if len(within) == MAX_DEPTH:
            raise RequestError(f"Prompt: wildcards inside wildcards are more than {MAX_DEPTH} deep.", "prompt")
        return self._options(name.name), (*within, name.name)

    def _options(self, name: str) -> tuple[tuple[float, Nodes], ...]:
        if name not in self._read:
            self._read[name] = tuple(option for file in self._files(name) for option in _read(file))
        return self._read[name]

    def _files(self, name: str) -> list[Path]:
        """The files of a name, which may hold stars; never one outside the folder."""
        parts = name.split("/")
        if not self._folder.is_dir() or any(part.strip(". ") == "" for part in parts):
            return []
        if sum("**" in part for part in parts) > 1:  # each looks through every folder that the one before it found
            return []
        found = sorted(self._folder.glob(f"{name}.txt")) if "*" in name else [self._folder / f"{name}.txt"]
        home = self._folder.resolve()
        return [file for file in found if file.is_file() and file.resolve().is_relative_to(home)]


class _Drawer:
    """Writes one prompt, choosing as it goes."""

    def __init__(self, wildcards: Wildcards, chance: random.Random):
        self._wildcards, self._chance = wildcards, chance
        self.written: list[str] = []
        self._length = self._choices = 0

    def write(self, nodes: Nodes, within: tuple[str, ...]) -> None:
        for node in nodes:
            match node:
                case str():
                    self._put(node)
                case Choice():
                    self.write(self._drawn(node.options), within)
                case Name():
                    options, inner = self._wildcards.enter(node, within)
                    if options:
                        self.write(self._drawn(options), inner)
                    else:
                        self._put(node.typed)

    def _put(self, text: str) -> None:
        self._length += len(text)
        if self._length > MAX_PROMPT:
            raise _too_long()
        self.written.append(text)

    def _drawn(self, options: tuple[tuple[float, Nodes], ...]) -> Nodes:
        self._choices += 1
        if self._choices > MAX_CHOICES:
            raise RequestError(f"Prompt: its wildcards ask for more than {MAX_CHOICES} choices.", "prompt")
        place = self._chance.random() * sum(weight for weight, _ in options)
        for weight, option in options:
            place -= weight
            if place < 0:
                return option
        return options[-1][1]


def parse(text: str) -> Nodes:
    """Parse a text; never raises. Braces without a partner, or deeper than MAX_DEPTH, are literal."""
    if "{" not in text and "__" not in text:
        return (text,) if text else ()
    parser = _parser()
    running = parser.parse_interactive()
    for token in _closed(list(parser.lex(text))):
        running.feed_token(token)
    return _Nodes().transform(running.feed_eof())


def _closed(tokens: list[Token]) -> list[Token]:
    """Retype braces without a partner as text."""
    waiting: list[int] = []
    keep: set[int] = set()
    for place, token in enumerate(tokens):
        if token.type == "_OPEN":
            waiting.append(place)
        elif token.type == "_CLOSE" and waiting:
            opening = waiting.pop()
            if len(waiting) < MAX_DEPTH:
                keep |= {opening, place}
    return [token if place in keep or token.type not in ("_OPEN", "_CLOSE") else Token("TEXT", str(token))
            for place, token in enumerate(tokens)]


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", lexer="basic")


class _Bar(str):
    """A bar that may part options."""


class _Nodes(Transformer):
    """From lark's tree to ours."""

    def TEXT(self, token: Token) -> str:
        return str(token)

    def NAME(self, token: Token) -> Name:
        return Name(str(token))

    def BAR(self, token: Token) -> _Bar:
        return _Bar(token)

    def start(self, children: list) -> Nodes:
        return tuple(children)

    def choice(self, children: list) -> Choice:
        options: list[list] = [[]]
        for child in children:
            if isinstance(child, _Bar):
                options.append([])
            else:
                options[-1].append(child)
        return Choice(tuple(_weighted(tuple(option)) for option in options))


def _weighted(nodes: Nodes) -> tuple[float, Nodes]:
    """Take `2::` off the front of an option. A weight of 0 leaves the option out of every draw."""
    match = WEIGHT.match(nodes[0]) if nodes and isinstance(nodes[0], str) else None
    if not match:
        return 1.0, nodes
    rest = nodes[0][match.end():]
    return float(match[1]), ((rest, *nodes[1:]) if rest else nodes[1:])


def _read(file: Path) -> list[tuple[float, Nodes]]:
    with file.open("rb") as opened:
        raw = opened.read(MAX_FILE_BYTES)
    lines = (line.strip() for line in raw.decode("utf-8-sig", "replace").splitlines())
    return [_weighted(parse(line)) for line in lines if line and not line.startswith("#")]


def _short_enough(text: str) -> str:
    if len(text) > MAX_PROMPT:
        raise _too_long()
    return text


def _too_long() -> RequestError:
    return RequestError(f"Prompt: its wildcards make it longer than {MAX_PROMPT} characters.", "prompt")
