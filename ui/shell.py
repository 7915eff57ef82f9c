"""The page: header, model picker, tabs, and what connects the tabs with each other and with the last visit."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from pipelines import events, metadata
from pipelines.errors import StudioError
from pipelines.families import FAMILIES
from pipelines.library.read.card import ModelCard
from pipelines.studio.studio import Studio
from pipelines.studio.works import Load

from . import preferences, queue_panel, visitors
from .forms import limits, presets, styles
from .forms.controls import find_card
from .forms.fields import MODEL_FIELDS
from .language import page as page_language
from .language import said
from .rest import gradio_endpoints
from .results.progress import queue_line
from .run import allowed, filled
from .server.public_link import PublicLink, banner
from .tab import Page, Remembered, discover
from .wiring import QUEUED, QUIET, apart, guarded, inform, problem, toast

STATUS_EVERY_S = 3
TOGETHER = 8  # remembered controls that one event looks at: all of them at once make each key that is typed wait


def build(studio: Studio) -> gr.Blocks:
    """Build the page for a studio. Launch it with the theme, css and head of `ui.static.theme`."""
    with gr.Blocks(title="Atelier", analytics_enabled=False, delete_cache=(3600, 86400), fill_width=True) as demo:
        demo.public_link = PublicLink()  # the server tells it what became of the link
        shown_link = banner(demo.public_link) if studio.settings.share else None  # above all else
        page = _header(studio)
        with page.tabs:
            for tab in discover():
                with gr.Tab(tab.label, id=tab.name, elem_id=f"tab-{tab.name}") as opened:
                    page.opened[tab.name] = opened
                    tab.build(studio, page)
                opened.select(None, js=f"() => atelier.noteTab({json.dumps([tab.name, tab.label])})", **QUIET)
        _send_to(studio, page)
        _switch_models(studio, page)
        limits.wire(studio, page)
        presets.wire(page, _rule)
        styles.editor(studio, page)
        preferences.help_panel(demo, page)
        _remember(demo, page)
        _tell_status(studio, page.queue, shown_link)
        queue_panel.build(studio, page.visitor, page.jobs)
        _say_goodbye(studio)
        gradio_endpoints.publish(studio, demo)
    page_language.speak(demo)
    return demo


def _header(studio: Studio) -> Page:
    card = studio.collection.default_card()
    with gr.Row(elem_classes="header"):
        gr.Markdown("# Atelier", elem_classes="name")
        model = gr.Dropdown(_choices(studio), value=card.name, label="Model", show_label=False, container=False,
                            filterable=False, min_width=160, elem_classes="model", elem_id="model")
        about = gr.Textbox(_about(card), label="About the model", show_label=False, container=False,
                           interactive=False, max_lines=1, elem_classes="line model-line", elem_id="model-line")
        queue = gr.Textbox(queue_line(studio), label="Queue and device", show_label=False, container=False,
                           interactive=False, max_lines=1, elem_id="queue-line", elem_classes="line right queue-line")
        jobs = queue_panel.button()
        preferences.help_button()
    preferences.guide()
    visitor = gr.Textbox("", label="visitor", visible=False)
    return Page(visitor, model, gr.Tabs(elem_id="tabs"), about, queue, jobs)


def _choices(studio: Studio) -> list[tuple[str, str]]:
    """The checkpoints, and which of them need no loading."""
    loaded = {each.name for each in studio.status().loaded}
    return [(f"{card.title} ({said('in memory')})" if card.name in loaded else card.title, card.name)
            for card in studio.collection.cards()]


def _about(card: ModelCard) -> str:
    parts = [FAMILIES[card.family].label, f"{card.native_size} px", *([card.note] if card.note else [])]
    return " · ".join(parts)


def _tell_status(studio: Studio, line: gr.Textbox, shown_link: tuple[list, Callable] | None) -> None:
    timer = gr.Timer(STATUS_EVERY_S)
    if shown_link is None:
        timer.tick(lambda: queue_line(studio), None, line, **QUIET)
        return
    parts, shown = shown_link
    timer.tick(lambda: (queue_line(studio), *shown()), None, [line, *parts], **QUIET)


def _say_goodbye(studio: Studio) -> None:
    """Let a page that is closed say so. Its script calls this itself: no event of Gradio's leaves in time."""
    def leaving(page: str) -> None:
        studio.leaving(visitors.page_of(str(page or "")))

    gr.api(leaving, api_name="leaving", queue=False, api_visibility="private")


def _switch_models(studio: Studio, page: Page) -> None:
    """Load the picked model; fields that still hold the old model's own values move to the new one's."""
    before = gr.Textbox(page.model.value, label="model before", visible=False)
    moves = gr.Textbox("{}", label="values to move", visible=False)
    page.remembered["model-before"] = before
    controls = [(name, form.fields[name]) for form in page.forms.values() for name in MODEL_FIELDS
                if name in form.fields]
    boxes = [control for _, control in controls]

    def adopt(new: str, old: str) -> tuple[str, str]:
        had, has = studio.resolver.defaults(old), studio.resolver.defaults(new)
        return new, json.dumps({name: [had[name], has[name]] for name in MODEL_FIELDS if had[name] != has[name]})

    def adopting(event: Callable) -> None:
        """The server says what is to move; the page moves it, as only the page knows what was typed meanwhile."""
        event(guarded(adopt), [page.model, before], [before, moves], **QUEUED).success(
            None, [moves, *boxes], boxes, **QUIET,
            js=f"(moves, ...values) => atelier.move({json.dumps([name for name, _ in controls])}, moves, values)")

    def load(name: str) -> Iterator[str]:
        card = find_card(studio, name)
        try:
            job = studio.submit(Load(name), visitors.caller())
            yield f"Loading {card.title} ..."
            for event in job.follow():
                match event:
                    case events.Queued(position) if position > 0:
                        yield f"Waiting to load {card.title}"
                    case events.Loading(title):
                        yield f"Loading {title} ..."
                    case events.Notice(text):
                        inform(text)
                        yield gr.skip()
                    case events.Failed(error):
                        raise error
                    case events.Finished():
                        yield _about(card)
                    case _:
                        yield gr.skip()
        except Exception as error:
            message = problem(error)
            yield message
            raise toast(message) from None

    adopting(page.model.input)
    page.model.input(load, page.model, page.about, trigger_mode="always_last", **QUEUED)
    for button, given, name_of in page.choosers:
        def pick(value: object, name_of: Callable = name_of) -> gr.Dropdown:
            return gr.Dropdown(_choices(studio), value=name_of(value))

        picked = button.click(guarded(pick), given, page.model, **QUEUED)
        adopting(picked.success)
        picked.success(load, page.model, page.about, **QUEUED)
    # The list is read again when the picker is opened, so a model that was just added can be picked.
    page.model.focus(lambda: gr.Dropdown(choices=_choices(studio)), None, page.model, **QUIET)

    def bring_back(name: str) -> tuple[gr.Dropdown, str]:
        """The model of the last visit; the picker may not have heard of it yet, so its list comes along."""
        card = find_card(studio, name)
        return gr.Dropdown(choices=_choices(studio), value=card.name), _about(card)

    page.returning.append((bring_back, [before], [page.model, page.about]))


def _send_to(studio: Studio, page: Page) -> None:
    """Wire every "send to" button: the settings fill the other tab's form, the picture becomes its source."""
    for panel in page.panels.values():
        for target, button in panel.send.items():
            page.senders.append((button, target, [panel.shown, panel.selected],
                                 lambda shown, selected: (shown[selected].path, shown[selected].infotext)
                                 if shown else ("", "")))
    for button, target, inputs, pick in page.senders:
        form, receiver = page.forms.get(target), page.receivers.get(target)
        outputs = [page.tabs, *([page.model, *form.fields.values()] if form else []),
                   *(receiver.outputs if receiver else [])]
        outputs = list(dict.fromkeys(outputs))
        button.click(guarded(_sender(studio, page, target, pick)), inputs, outputs,
                     **apart(QUEUED, page.model))


def _sender(studio: Studio, page: Page, target: str, pick: Callable[..., tuple]) -> Callable[..., dict]:
    form, receiver = page.forms.get(target), page.receivers.get(target)

    def send(*values: Any) -> dict:
        path, text = pick(*values)
        if not path:
            raise StudioError("There is no picture to send yet.")
        parsed = text  # of Image info, which has settled its names
        if not isinstance(text, metadata.Parsed):
            parsed = studio.collection.settle(metadata.parse_any(text, allowed(studio)).parsed)
        update: dict = {page.tabs: gr.Tabs(selected=target)}
        if receiver is not None:
            update |= receiver.accept(path)
        if form is not None:
            update |= filled(form, parsed)
            if parsed.fields.get("model") in {card.name for card in studio.collection.cards()}:
                update[page.model] = parsed.fields["model"]
        return update

    return send


def _remember(demo: gr.Blocks, page: Page) -> None:
    """Keep what was typed in the browser and bring it back, without a round trip that could overtake the typist."""
    page.remembered["model"] = page.model
    names, controls = list(page.remembered), list(page.remembered.values())
    for start in range(0, len(names), TOGETHER):
        some = controls[start:start + TOGETHER]
        gr.on([control.change for control in some], None, some, None, trigger_mode="multiple",
              js=f"(...values) => atelier.save({json.dumps(names[start:start + TOGETHER])}, values)", **QUIET)
    rules = json.dumps([_rule(name, control) for name, control in page.remembered.items()]).replace("</", "<\\/")
    answers = sum(not inspect.isgeneratorfunction(handler) for handler, _, _ in page.returning)
    given = f"{rules}, {answers}, {json.dumps(page.model.value)}, {json.dumps(list(page.presets))}"
    arrived = demo.load(None, None, [page.visitor, *controls, *(made.name for made in page.presets.values())],
                        js=f"async () => atelier.restore({given})", **QUIET)
    for handler, inputs, outputs in page.returning:
        answer = arrived.then(_or_nothing(handler), inputs, outputs, **apart(QUEUED, page.model))
        if not inspect.isgeneratorfunction(handler):
            answer.then(None, js="() => atelier.answered()", **QUIET)


def _rule(name: str, control: Remembered) -> dict[str, object]:
    """What a remembered value must be to be taken back: the browser's store is not trusted."""
    rule: dict[str, object] = {"name": name}
    if isinstance(control, gr.Dropdown) and control.multiselect:
        rule["kind"] = "list"
    elif isinstance(control, gr.Dropdown) and not control.allow_custom_value:
        rule["choices"] = [value for _, value in control.choices]
    elif isinstance(control, gr.Checkbox):
        rule["kind"] = "boolean"
    elif isinstance(control, gr.Slider | gr.Number):
        rule |= {"kind": "number", "low": control.minimum, "high": control.maximum, "empty": control.value is None}
    else:
        rule |= {"kind": "string"}
    return rule


def _or_nothing(handler: Callable) -> Callable:
    """Let a handler answer {} for "nothing to change"."""
    if inspect.isgeneratorfunction(handler):
        return handler
    return lambda *values: handler(*values) or gr.skip()
