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

from .fields import MAX_TEXT
from .texts import plain, text_of

MAX_NODES = 20_000  # that are looked at; the largest graphs that people make have some thousand
MAX_TEXT_NODES = 5_000  # visits while all prompts of a graph are put together
MAX_HOPS = 20  # links to the node that keeps a value
# Where a node that only hands a value on keeps it.
_VALUES = ("value", "seed", "noise_seed", "int", "float", "number", "string", "text", "Value", "Number")
_TEXTS = re.compile(r"(text|string|prompt|str|value|any|source|input|populated_text)([_ ]?([a-zA-Z]|\d{1,2}))?")


@dataclass(frozen=True)
class Node:
    """One node. kind: ComfyUI's class_type."""

    id: str
    kind: str
    inputs: dict[str, Any]


def link_of(value: Any) -> str | None:
    """The node that a link points to; None for a value."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int) and isinstance(value[1], int):
        return str(value[0])
    return None


class Graph:
    """The nodes by id. What is no node is left out, and so are those past MAX_NODES."""

    def __init__(self, data: dict[str, Any]):
        self.cut = len(data) > MAX_NODES
        self.text_nodes_left = MAX_TEXT_NODES
        self.text_left = MAX_TEXT
        self.nodes = {key: Node(key, text_of(one.get("class_type")), one["inputs"])
                      for key, one in islice(data.items(), MAX_NODES)
                      if isinstance(one, dict) and isinstance(one.get("inputs"), dict) and one.get("class_type")}

    def follow(self, value: Any) -> Node | None:
        """The node at the other end of a link."""
        return self.nodes.get(link_of(value) or "")

    def links(self, node: Node, wanted: Callable[[str], bool] = bool) -> list[Node]:
        """The nodes that feed the inputs with a wanted name, in the order of the inputs."""
        ends = (self.follow(value) for name, value in node.inputs.items() if wanted(name))
        return [end for end in ends if end is not None]

    def upstream(self, starts: list[Node], wanted: Callable[[str], bool] = bool,
                 seen: set[str] | None = None) -> Iterator[Node]:
        """Walk against the links, nearest first. seen: ids that are passed by, and to which every visit is added."""
        seen = set() if seen is None else seen
        waiting = deque(starts)
        while waiting:
            node = waiting.popleft()
            if node.id not in seen:
                seen.add(node.id)
                yield node
                waiting.extend(self.links(node, wanted))

    def value(self, node: Node | None, *names: str) -> Any:
        """The value of the first of these inputs that has one, fetched from as far away as it takes."""
        for name in names if node else ():
            value = node.inputs.get(name)
            for _ in range(MAX_HOPS):
                if (target := self.follow(value)) is None:
                    break
                value = next((target.inputs[key] for key in (name, *_VALUES) if key in target.inputs), None)
                if value is None and len(target.inputs) == 1:  # a reroute
                    value = next(iter(target.inputs.values()))
            if value is not None and not isinstance(value, dict | list):
                return value
        return None

    def text(self, value: Any) -> str:
        """Put a text together from nodes that hold, join or show one."""
        parts = []
        waiting = [value]
        while waiting and self.text_nodes_left and self.text_left:
            self.text_nodes_left -= 1
            value = waiting.pop()
            if (node := self.follow(value)) is not None:
                waiting.extend(reversed(_joined(node)))
            elif isinstance(value, str | int | float) and not isinstance(value, bool):
                parts.append(plain(value)[:self.text_left])
                self.text_left -= len(parts[-1])
        return "".join(parts)


def _joined(node: Node) -> list[Any]:
    """The values whose texts make up the node's, with the delimiter between them."""
    if "populated_text" in node.inputs:  # what wildcard nodes made of wildcard_text
        return [node.inputs["populated_text"]]
    names = [name for name in node.inputs if _TEXTS.fullmatch(name)]
    if node.kind.startswith("ShowText"):  # keeps what it showed last beside its input
        names = names[:1]
    if not names and len(node.inputs) == 1:
        return list(node.inputs.values())
    delimiter = text_of(node.inputs.get("delimiter", node.inputs.get("separator", "")))
    joined: list[Any] = []
    for name in names:
        joined += [delimiter, node.inputs[name]] if joined else [node.inputs[name]]
    return joined
