"""What a tab is, what all tabs of one page share, and how tabs are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr

if TYPE_CHECKING:
    from .controls import Form
    from .progress import Panel


@dataclass
class Page:
    """What the tabs of one built page share.

    visitor: hidden text box with this browser tab's id, filled by the page's script on load.
    model: the model picker of the header.
    remembered: the controls whose values survive a reload, by a name that never changes.
    returning: what runs after a reload, once the remembered values are back: (function, inputs, outputs).
    senders: "send to" buttons: (button, name of the tab it sends to, inputs, picks path and infotext from them).
    """

    visitor: gr.Textbox
    model: gr.Dropdown
    tabs: gr.Tabs
    remembered: dict[str, gr.components.Component] = field(default_factory=dict)
    forms: dict[str, Form] = field(default_factory=dict)
    panels: dict[str, Panel] = field(default_factory=dict)
    receivers: dict[str, Receiver] = field(default_factory=dict)
    returning: list[tuple[Callable, list, list]] = field(default_factory=list)
    senders: list[tuple[gr.Button, str, list, Callable]] = field(default_factory=list)


@dataclass(frozen=True)
class Receiver:
    """How a tab takes over a picture that another tab sends.

    accept: path of the picture's file -> {component: update}.
    outputs: the components that `accept` may change.
    """

    accept: Callable[[str], dict]
    outputs: list[gr.components.Component]


@dataclass(frozen=True)
class Tab:
    """One tab: a module in ui/tabs exports it as TAB."""

    name: str
    label: str
    order: int
    build: Callable[[Any, Page], None]


def discover() -> tuple[Tab, ...]:
    """Find every tab, in the order of the page. Raises TypeError for a module in ui/tabs without a TAB."""
    from . import tabs

    found = []
    for module in pkgutil.iter_modules(tabs.__path__):
        tab = getattr(importlib.import_module(f"{tabs.__name__}.{module.name}"), "TAB", None)
        if not isinstance(tab, Tab):
            raise TypeError(f"ui/tabs/{module.name} must export TAB")
        found.append(tab)
    return tuple(sorted(found, key=lambda tab: tab.order))
