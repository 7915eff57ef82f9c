"""ComfyUI's graph as it was executed: nodes with inputs, each a value or a link [node, output].

A stranger's graph may be cyclic, wide or very deep, so that every walk keeps a list of what it has seen, recurses
never, and visits a node at most once; only texts, which a graph may rightly use twice, have a budget instead.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from . import switches
from .fields import MAX_TEXT
from .texts import plain, text_of

MAX_NODES = 10_000  # that are looked at; the largest graphs that people make have some thousand
MAX_TEXT_NODES = 5_000  # visits while all prompts of a graph are put together
MAX_HOPS = 20  # links to the node that keeps a value
# Where a node that only hands a value on keeps it.
_VALUES = ("value", "seed", "noise_seed", "int", "float", "number", "string", "text", "Value", "Number", "result",
           "selected", "boolean", "any", "anything", "source", "input")
# Nodes whose value is not among their inputs.
_COMPUTES = re.compile(r"math|compare|logic|operat|random|neg$|not$|invert", re.IGNORECASE)
_TEXTS = re.compile(r"(text|string|prompt|str|value|any|source|input|part|content|populated_text)"
                    r"([_ ]?([a-zA-Z]|\d{1,2}))?")
_DELIMITERS = ("delimiter", "separator", "seperator", "sep")


@dataclass(frozen=True)
class Node:
    """One node. kind: ComfyUI's class_type."""

    id: str
    kind: str
    inputs: dict[str, Any]


def link_of(value: object) -> str | None:
    """The node that a link points to; None for a value."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int) and isinstance(value[1], int):
        return str(value[0])
    return None


def names_for(role: str) -> tuple[str, ...]:
    """Inputs for one side of the prompt, "positive" or "negative", in nodes that know both."""
    return (role, f"base_{role}", f"{role}_prompt", f"text_{role}", f"prompt_{role}", f"{role}_text", f"opt_{role}")


class Graph:
    """The nodes by id. What is no node is left out, and so are those past MAX_NODES.

    taken: the values that were used, as (node's id, input's name); all others are to be listed.
    """

    def __init__(self, data: dict[str, Any]):
        self.cut = len(data) > MAX_NODES
        self.text_nodes_left = MAX_TEXT_NODES
        self.text_left = MAX_TEXT
        self.taken: set[tuple[str, str]] = set()
        self._passed: dict[str, str | None] = {}  # switch -> the input it hands on
        self.nodes = {key: Node(key, text_of(one.get("class_type")), one["inputs"])
                      for key, one in islice(data.items(), MAX_NODES)
                      if isinstance(one, dict) and isinstance(one.get("inputs"), dict) and one.get("class_type")}

    def take(self, node: Node, *names: str) -> None:
        """Note that these inputs of a node were used."""
        self.taken |= {(node.id, name) for name in names}

    def follow(self, value: object) -> Node | None:
        """The node at the other end of a link, behind switches and reroutes."""
        for _ in range(MAX_HOPS):
            node = self.nodes.get(link_of(value) or "")
            name = self._handed_on(node) if node else None
            if node is None or name is None or link_of(node.inputs[name]) is None:
                return node
            value = node.inputs[name]
        return None

    def _handed_on(self, node: Node) -> str | None:
        """The only input of a reroute, and the one that a switch has chosen."""
        if node.id not in self._passed:
            name, selector = switches.chosen(node.kind, node.inputs, self._is_linked, self._constant)
            if name is None and len(node.inputs) == 1 and "reroute" in node.kind.lower():
                name = next(iter(node.inputs))
            if name is not None and selector is not None:
                self.take(node, selector)
            self._passed[node.id] = name
        return self._passed[node.id]

    def _is_linked(self, value: object) -> bool:
        return (link_of(value) or "") in self.nodes

    def _constant(self, value: object) -> object:
        """What a selector says, where a node keeps it; switches on the way are not looked through."""
        for _ in range(MAX_HOPS):
            node = self.nodes.get(link_of(value) or "")
            if node is None:
                return value
            name = None if _COMPUTES.search(node.kind) else next((key for key in _VALUES if key in node.inputs), None)
            if name is None:
                return None
            self.take(node, name)
            value = node.inputs[name]
        return None

    def links(self, node: Node, wanted: Callable[[str], bool] = bool) -> list[Node]:
        """The nodes that feed the inputs with a wanted name, in the order of the inputs."""
        ends = (self.follow(value) for name, value in node.inputs.items() if wanted(name))
        return [end for end in ends if end is not None]

    def upstream(self, starts: list[Node], wanted: Callable[[str], bool] = bool,
                 seen: set[str] | None = None) -> Iterator[Node]:
        """Walk against the links, nearest first. seen: ids that are passed by, and to which every visit is added."""
        return self.walk(starts, lambda node: self.links(node, wanted), seen)

    def walk(self, starts: list[Node], before: Callable[[Node], list[Node]],
             seen: set[str] | None = None) -> Iterator[Node]:
        """As `upstream`. before: the nodes to go on to from a node."""
        seen = set() if seen is None else seen
        waiting = deque(starts)
        while waiting:
            node = waiting.popleft()
            if node.id not in seen:
                seen.add(node.id)
                yield node
                waiting.extend(before(node))

    def value(self, node: Node | None, *names: str) -> Any:
        """The value of the first of these inputs that has one, fetched from as far away as it takes, and taken."""
        value, holder = self._find(node, names)
        if holder is not None:
            self.taken.add(holder)
        return value

    def peek(self, node: Node | None, *names: str) -> Any:
        """As `value`, for one that may not be used."""
        return self._find(node, names)[0]

    def _find(self, node: Node | None, names: tuple[str, ...]) -> tuple[Any, tuple[str, str] | None]:
        for name in names if node else ():
            value, holder = node.inputs.get(name), (node.id, name)
            for _ in range(MAX_HOPS):
                if (target := self.follow(value)) is None:
                    break
                key = self._key_of_value(target, (name, *names))
                value, holder = target.inputs.get(key) if key else None, (target.id, key or "")
            if isinstance(value, dict):  # a name beside the picture that its list shows
                value = value.get("content")
            if value is not None and not isinstance(value, dict | list):
                return value, holder
        return None, None

    def _key_of_value(self, node: Node, names: tuple[str, ...]) -> str | None:
        if handed_on := self._handed_on(node):
            return handed_on
        if key := next((key for key in names if key in node.inputs), None):
            return key
        if _COMPUTES.search(node.kind):
            return None
        only = next(iter(node.inputs)) if len(node.inputs) == 1 else None
        return next((key for key in _VALUES if key in node.inputs), only)

    def text(self, value: object, role: str = "", holder: tuple[str, str] | None = None) -> str:
        """Put a text together from nodes that hold, join or show one. role: for nodes that know both prompts.

        holder: the node's id and the input's name of a value that is no link.
        """
        parts = []
        waiting = [(value, holder)]
        while waiting and self.text_nodes_left and self.text_left:
            self.text_nodes_left -= 1
            value, holder = waiting.pop()
            if (node := self.follow(value)) is not None:
                waiting.extend(reversed(self._joined(node, role)))
            elif isinstance(value, str | int | float) and not isinstance(value, bool):
                parts.append(plain(value)[:self.text_left])
                self.text_left -= len(parts[-1])
                self.taken |= {holder} if holder else set()
        return "".join(parts)

    def _joined(self, node: Node, role: str) -> list[tuple[Any, tuple[str, str]]]:
        """The values whose texts make up the node's, with the delimiter between them."""
        inputs = node.inputs
        lines = text_of(inputs.get("strings")).splitlines()
        if isinstance(inputs.get("select"), int) and lines and not inputs.get("multiline"):
            self.take(node, "select", "strings")
            return [(lines[inputs["select"] % len(lines)], (node.id, "strings"))]
        names = [self._handed_on(node)] if self._handed_on(node) else _text_names(node, role)
        delimiter = next((name for name in _DELIMITERS if isinstance(inputs.get(name), str)), "")
        between = inputs[delimiter].replace("\\n", "\n") if delimiter else ""
        if inputs.get("tidy_tags") == "yes" and not delimiter:
            delimiter, between = "tidy_tags", ", "
        joined: list[tuple[Any, tuple[str, str]]] = []
        for name in names:
            joined += [(between, (node.id, delimiter))] if joined and between else []
            joined.append((inputs[name], (node.id, name)))
        return joined


def _text_names(node: Node, role: str) -> list[str]:
    """The inputs that hold or lead to a node's text."""
    inputs = node.inputs
    if "populated_text" in inputs:  # what wildcard nodes made of wildcard_text
        return ["populated_text"]
    if sided := next((name for name in names_for(role) if role and name in inputs), None):
        return [sided]
    names = [name for name in inputs if _TEXTS.fullmatch(name)]
    if node.kind.startswith("ShowText"):  # keeps what it showed last beside its input
        return names[:1]
    return names or (list(inputs) if len(inputs) == 1 else [])
