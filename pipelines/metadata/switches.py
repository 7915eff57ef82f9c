"""Nodes of ComfyUI that hand one of several inputs on: which input that is.

A switch is known by its name and by what its inputs are called, because every pack of nodes has its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

_KIND = re.compile(r"switch|select|branch|if.?else|if any|ifcondition", re.IGNORECASE)
_FIRST = re.compile(r"(any|context) switch", re.IGNORECASE)  # that hand on the first input that there is
# Inputs that say which one it is, the surest first.
_SELECTORS = ("select", "selected", "selection", "Input", "switch", "boolean", "boolean_value", "condition", "cond",
              "index", "ANY", "input", "choice", "use", "enabled", "value", "number", "int")
# What the inputs for yes and no are called.
_YES_NO = (("on_true", "on_false"), ("tt_value", "ff_value"), ("if_true", "if_false"), ("IF_TRUE", "IF_FALSE"),
           ("true_value", "false_value"),
           ("true", "false"), ("yes", "no"), ("on", "off"))
_PLACE = re.compile(r"(.*?)[ _]?(\d{1,3}|[a-d])", re.IGNORECASE)


def chosen(kind: str, inputs: Mapping[str, Any], is_link: Callable[[Any], bool],
           constant: Callable[[Any], Any]) -> tuple[str | None, str | None]:
    """The input that a switch hands on, and the one that says so; (None, None) for what is no switch, or not known.

    is_link: whether an input's value is a link to a node that there is. constant: the value at the end of a link.
    """
    pair = next((pair for pair in _YES_NO if pair[0] in inputs and pair[1] in inputs), None)
    if not pair and not _is_switch(kind):
        return None, None
    for selector in _SELECTORS:
        if selector not in inputs or (pair and selector in pair):
            continue
        value = constant(inputs[selector])
        name = _named(value, [name for name in inputs if name != selector], pair)
        if name is not None:
            return name, selector
    if _FIRST.search(kind):
        return next((name for name in sorted(inputs) if is_link(inputs[name])), None), None
    return None, None


@lru_cache(maxsize=1024)
def _is_switch(kind: str) -> bool:
    return _KIND.search(kind[:200]) is not None


def _named(value: object, options: list[str], pair: tuple[str, str] | None) -> str | None:
    """The option that a selector's value means: by yes and no, by its own name, or by its place."""
    if isinstance(value, str) and value in options:
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        value = value.strip().lower() == "true"
    places = {_place(name): name for name in reversed(options)}
    if isinstance(value, bool):
        return pair[not value] if pair else places.get("a" if value else "b")
    number = re.fullmatch(r"\D{0,20}(\d{1,3})(?:\.0)?", str(value)) if isinstance(value, int | float | str) else None
    if number is None:
        return None
    place = int(number[1])
    return pair[not place] if pair else places.get(str(place)) or places.get({1: "a", 0: "b"}.get(place, ""))


def _place(name: str) -> str:
    """The number or letter at the end of an option's name, "" for none."""
    found = _PLACE.fullmatch(name)
    return (str(int(found[2])) if found[2].isdecimal() else found[2].lower()) if found else ""
