"""The language of prompts that vary, as a tree: `__name__`, `{a|2::b}`, `{1-2$$ and $$a|b}`, `${x=a}`, `${x:default}`.

It is that of Dynamic Prompts (adieyal/sd-dynamic-prompts, docs/SYNTAX.md). Any text parses: what is not well formed is
literal text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from lark import Lark, Token, Transformer

MAX_DEPTH = 16  # braces inside braces
SEPARATOR = ", "  # between options that are drawn together

NAME = r"__[\w\-. *\/]+?(?:\([^()\n{}]{0,400}\))?__"
GRAMMAR = rf"""
start: _any*
_any: TEXT | NAME | BAR | choice | variable
choice: OPEN _any* _CLOSE
variable: _VARIABLE _any* _CLOSE
NAME.2: /{NAME}/
TEXT: /(?:(?!{NAME}|\$\{{)[^{{}}|])+/
BAR: "|"
OPEN: /\{{(?:\s*(?:\d{{1,4}}-\d{{0,4}}|-?\d{{1,4}})\s*\$\$(?:[^${{}}]{{0,80}}\$\$)?)?/
_VARIABLE: "${{"
_CLOSE: "}}"
"""
WEIGHT = re.compile(r"\s*(\d{1,6}(?:\.\d{0,6})?|\.\d{1,6})\s*::")
_BOUND = re.compile(r"\{\s*(\d*)(-?)(\d*)\s*\$\$(?:(.*)\$\$)?", re.DOTALL)
_VARIABLE = re.compile(r"\s*([\w\-]+)\s*(?:(\??)=\s*(!?)|(:)|\Z)")
_SAMPLER = re.compile(r"\s*[~@!]\w")  # {@a|b}: another way of choosing, which is not read
_OTHERWISE = re.compile(r"\{\s*[~@!]\w[^{}|]*\|[^{}]*\}")


@dataclass(frozen=True)
class Name:
    """A file of options. typed: as it stood in the prompt. variables: those that the file's text is given."""

    typed: str
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return name_of(self.typed)


@dataclass(frozen=True)
class Choice:
    """Options, each as likely as its weight says. low, high: how many are drawn, without repeating any."""

    options: Options
    low: int = 1
    high: int = 1
    separator: str = SEPARATOR

    def bounds(self, count: int) -> tuple[int, int]:
        """At least and at most how many of `count` options are drawn."""
        low, high = sorted((self.low, self.high))
        return min(low, count), min(high, count)


@dataclass(frozen=True)
class Assign:
    """Set a variable. at_once: it is drawn once, and not anew at each use. keeps: unless it is set already."""

    name: str
    value: Nodes
    at_once: bool
    keeps: bool


@dataclass(frozen=True)
class Use:
    """The value of a variable. default: what stands for one that nothing sets, or None."""

    name: str
    default: Nodes | None

    @property
    def typed(self) -> str:
        return f"${{{self.name}}}"


Node = str | Name | Choice | Assign | Use
Nodes = tuple[Node, ...]
Options = tuple[tuple[float, Nodes], ...]  # each with its weight


def name_of(typed: str) -> str:
    """The name between the underscores of `__name__` or `__name(x=a)__`."""
    return typed[2:-2].partition("(")[0].strip()


def parse(text: str) -> Nodes:
    """Parse a text; never raises. Braces without a partner, or deeper than MAX_DEPTH, are literal."""
    if "{" not in text and "__" not in text:
        return (text,) if text else ()
    running = _parser().parse_interactive()
    for token in _tokens(text):
        running.feed_token(token)
    return _Nodes().transform(running.feed_eof())


def unread(text: str) -> tuple[tuple[str, str], ...]:
    """What of a drawn prompt still looks as if it were to be chosen: ("choice", "name" or "variable", the piece)."""
    if "{" not in text and "__" not in text:
        return ()
    found = [("choice", piece) for piece in _OTHERWISE.findall(text)]
    opened: list[Token] = []
    varies = False
    for token in _tokens(text):
        match token.type:
            case "OPEN" | "_VARIABLE":
                opened.append(token)
                varies |= token.type == "_VARIABLE" or "$$" in token
            case "BAR":
                varies |= bool(opened)
            case "NAME" if not opened:
                found.append(("name", str(token)))
            case "_CLOSE":
                opening = opened.pop()
                if not opened and varies:
                    kind = "variable" if opening.type == "_VARIABLE" else "choice"
                    found.append((kind, text[opening.start_pos:token.end_pos]))
                varies &= bool(opened)
    return tuple(dict.fromkeys(found))


def _tokens(text: str) -> list[Token]:
    """The tokens of a text, with braces that have no partner, or say nothing that is read, retyped as text."""
    tokens = list(_parser().lex(text))
    waiting: list[int] = []
    keep: set[int] = set()
    for place, token in enumerate(tokens):
        if token.type in ("OPEN", "_VARIABLE"):
            waiting.append(place)
        elif token.type == "_CLOSE" and waiting:
            opening = waiting.pop()
            if len(waiting) < MAX_DEPTH and _is_read(tokens, opening, place):
                keep |= {opening, place}
    return [token if place in keep or token.type not in ("OPEN", "_VARIABLE", "_CLOSE") else Token("TEXT", str(token))
            for place, token in enumerate(tokens)]


def _is_read(tokens: list[Token], opening: int, closing: int) -> bool:
    """Whether what stands between two braces begins as a choice or a variable does."""
    first = tokens[opening + 1]
    begin = str(first) if first.type == "TEXT" else ""
    if tokens[opening].type == "OPEN":
        return not _SAMPLER.match(begin)
    variable = _VARIABLE.match(begin)
    return variable is not None and (variable[2] is not None or variable[4] is not None or opening + 2 == closing)


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
        _, _, given = token[2:-2].partition("(")
        pairs = (pair.partition("=") for pair in given.rstrip(") ").split(","))
        return Name(str(token), tuple((name.strip(), value.strip()) for name, equals, value in pairs if equals))

    def BAR(self, token: Token) -> _Bar:
        return _Bar(token)

    def start(self, children: list) -> Nodes:
        return tuple(children)

    def choice(self, children: list) -> Choice:
        opening, *children = children
        options: list[list] = [[]]
        for child in children:
            if isinstance(child, _Bar):
                options.append([])
            else:
                options[-1].append(child)
        weighted = tuple(weighed(tuple(option)) for option in options)
        bound = _BOUND.match(opening)
        if bound is None:
            return Choice(weighted)
        return Choice(weighted, *_counts(bound), SEPARATOR if bound[4] is None else bound[4])

    def variable(self, children: list) -> Assign | Use:
        head = _VARIABLE.match(children[0])
        rest = children[0][head.end():]
        value = ((rest, *children[1:]) if rest else tuple(children[1:]))
        if head[2] is None:
            return Use(head[1], value if head[4] else None)
        return Assign(head[1], value, bool(head[3]), bool(head[2]))


def _counts(bound: re.Match) -> tuple[int, int]:
    """At least and at most: "2", "1-2", "-2" from one, "1-" to all of them."""
    low, dash, high = bound[1], bound[2], bound[3]
    if not dash:
        return int(low), int(low)
    return int(low or 1), int(high or 9_999)


def weighed(nodes: Nodes) -> tuple[float, Nodes]:
    """Take `2::` off the front of an option. A weight of 0 leaves the option out of every draw."""
    match = WEIGHT.match(nodes[0]) if nodes and isinstance(nodes[0], str) else None
    if not match:
        return 1.0, nodes
    rest = nodes[0][match.end():]
    return float(match[1]), ((rest, *nodes[1:]) if rest else nodes[1:])
