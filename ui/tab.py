"""What a tab is, what all tabs of one page share, and how tabs are found."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import gradio as gr

from pipelines.requests import Request

from .forms.fields import MODEL_FIELDS, Control, make_control
from .results.panel import Panel
from .wiring import QUEUED

if TYPE_CHECKING:
    from pipelines.studio.studio import Studio

    from .forms.presets import Presets

Kept = TypeVar("Kept", bound=Control)
Remembered = Control | gr.ColorPicker


@dataclass
class Page:
    """What the tabs of one built page share.

    visitor: hidden text box with this browser tab's id, filled by the page's script on load.
    model: the model picker of the header.
    about: the line beside it, which changes when a model begins to load and when it is loaded.
    queue: the line with the device and how many jobs wait; a run brings it up to date when it ends.
    remembered: the controls whose values survive a reload, by a name that never changes.
    returning: what runs after a reload, once the remembered values are back: (function, inputs, outputs).
    opened: the tab each name stands for, whose `select` tells that it is looked at.
    choosers: buttons that choose a checkpoint: (button, input, makes its name of that).
    senders: "send to" buttons: (button, name of the tab it sends to, inputs, picks path and infotext from them).
    """

    visitor: gr.Textbox
    model: gr.Dropdown
    tabs: gr.Tabs
    about: gr.Textbox
    queue: gr.Textbox
    jobs: gr.Button
    remembered: dict[str, Remembered] = field(default_factory=dict)
    forms: dict[str, Form] = field(default_factory=dict)
    panels: dict[str, Panel] = field(default_factory=dict)
    receivers: dict[str, Receiver] = field(default_factory=dict)
    presets: dict[str, Presets] = field(default_factory=dict)
    opened: dict[str, gr.Tab] = field(default_factory=dict)
    choosers: list[tuple[gr.Button, gr.components.Component, Callable]] = field(default_factory=list)
    returning: list[tuple[Callable, Sequence, Sequence]] = field(default_factory=list)
    senders: list[tuple[gr.Button, str, list, Callable]] = field(default_factory=list)

    def follow_again(self, task: str, attach: Callable, outputs: Sequence[gr.blocks.Block]) -> None:
        """Let a tab take its job up again, after a reload and when the page's script finds that the page slept.

        attach: (visitor) -> updates of the outputs until the job has ended.
        """
        self.returning.append((attach, [self.visitor], outputs))
        woken = gr.Button("", visible="hidden", elem_id=f"{task}-follow")
        woken.click(attach, self.visitor, outputs, trigger_mode="multiple", **QUEUED)


@dataclass
class Form:
    """The left side of a tab.

    fields: request field -> its control. Source pictures and masks are hidden text boxes holding ids, except
    where a tab's `prepare` makes the value from another component. The buttons and the lock are made with their groups
    of controls, see forms/controls.py.
    """

    task: str
    request: type[Request]
    page: Page
    defaults: dict[str, Any]
    fields: dict[str, Control] = field(default_factory=dict)
    need: gr.Textbox | None = None
    generate: gr.Button = field(init=False)
    stop: gr.Button = field(init=False)
    skip: gr.Button = field(init=False)
    lock: gr.Checkbox = field(init=False)
    reuse: gr.Button = field(init=False)

    def add(self, name: str, **overrides: Any) -> Control:
        """Make the control of one request field and remember its value across reloads."""
        value = self.defaults.get(name) if name in MODEL_FIELDS else self.request.model_fields[name].default
        value = overrides.pop("value", value)
        control = make_control(self.request.model_fields[name], name, f"{self.task}-{name}", value, **overrides)
        self.fields[name] = control
        self.page.remembered[f"{self.task}.{name}"] = control
        return control

    def keep(self, name: str, control: Kept) -> Kept:
        """Remember the value of a control that is no request field."""
        self.page.remembered[f"{self.task}.{name}"] = control
        return control


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
    build: Callable[[Studio, Page], None]


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
