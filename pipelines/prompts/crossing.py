"""Weights of a text whose brackets cross or stand alone, by AUTOMATIC1111's rule: two independent piles of brackets.

A closing bracket counts for all text since the last open one of its own kind, whatever opened in between, and what is
never closed counts to the end. Where brackets nest, the tree of grammar.py says the same.
"""

from __future__ import annotations

import re

from .tree import Alternate, Break, Node, Part, Scheduled, Text, Weighted

_TOKEN = re.compile(r"\\(?P<escaped>[()\[\]\\]?)|(?P<open>[(\[])"
                    r"|:\s*(?P<weight>[+-]?[0-9.]{1,30})\s*\)|(?P<close>[)\]])"
                    r"|(?P<text>[^\\()\[\]:]+|:)")
_FACTORS = {"(": 1.1, "[": 1 / 1.1}
_OPENS = {")": "(", "]": "["}


def weigh_flat(text: str) -> list[tuple[str, float]]:
    """Read a text as pieces with weights, in order."""
    pieces: list[list] = []
    piles: dict[str, list[int]] = {"(": [], "[": []}

    def multiply(start: int, factor: float) -> None:
        for piece in pieces[start:]:
            piece[1] *= factor

    for token in _TOKEN.finditer(text):
        if token["open"]:
            piles[token["open"]].append(len(pieces))
        elif token["weight"] and piles["("] and _is_number(token["weight"]):
            multiply(piles["("].pop(), float(token["weight"]))
        elif token["close"] and piles[_OPENS[token["close"]]]:
            bracket = _OPENS[token["close"]]
            multiply(piles[bracket].pop(), _FACTORS[bracket])
        else:
            pieces.append([token["escaped"] if token[0].startswith("\\") else token[0], 1.0])
    for bracket, starts in piles.items():
        for start in starts:
            multiply(start, _FACTORS[bracket])
    return [(piece, weight) for piece, weight in pieces]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def is_odd(children: tuple[Node, ...]) -> bool:
    """Whether AUTOMATIC1111's grammar reads nothing here that changes with the steps.

    A bar outside of an alternation spoils the whole text, and a bracket without a partner the square ones around it;
    crossing brackets are weighed by another rule than nested ones.
    """
    inside = _changing(children)
    return _holds(children, "|") or any(map(_is_torn, inside or [Weighted(children, 1, "", "")]))


def _changing(children: tuple[Node, ...]) -> list[Node]:
    """The nodes that change with the steps, at any depth."""
    found: list[Node] = []
    for node in children:
        found += [node] if isinstance(node, Scheduled | Alternate) else []
        found += _changing(_inner(node))
    return found


def _inner(node: Node) -> tuple[Node, ...]:
    match node:
        case Weighted():
            return node.children
        case Scheduled():
            return (*node.before, *node.after)
        case Alternate():
            return tuple(child for option in node.options for child in option)
    return ()


def _holds(children: tuple[Node, ...], marks: str) -> bool:
    """Whether any text in there has one of the marks, not escaped."""
    return any((isinstance(node, Text) and not node.raw.startswith("\\") and bool(set(node.raw) & set(marks)))
               or _holds(_inner(node), marks) for node in children)


def _is_torn(node: Node) -> bool:
    """Whether a bracket without a partner stands inside."""
    inner = _inner(node)
    return _holds(inner, "()[]") or any(isinstance(one, Weighted) and one.opening and not one.closing or _is_torn(one)
                                        for one in inner)


def flat(part: Part, tokens: list[str]) -> Part:
    """Read a part by the rule for brackets that cross. tokens: as they were typed."""
    tokens = tokens[:-1] if tokens and getattr(tokens[-1], "type", "") == "SHARE" else tokens
    children: list[Node] = []
    for typed in re.split(r"\b(BREAK)\b", "".join(tokens)):
        if typed == "BREAK":
            children.append(Break())
            continue
        raw = typed
        for text, weight in weigh_flat(typed):
            children.append(Weighted((Text(text, raw),), weight, "", ""))
            raw = ""
    return Part(tuple(children), part.weight)
