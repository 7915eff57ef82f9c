"""Between a form and the studio: values become a request by name, and a job's news go to the panel."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from pipelines import metadata
from pipelines.collection import LISTED
from pipelines.requests import Request, make
from pipelines.samplers import SAMPLERS, SCHEDULES

from . import progress, results
from .axes import Axes
from .tab import Form, Page
from .wiring import QUEUED, QUIET, alive, problem, toast, told

SETTINGS = re.compile(r"^Steps: \d+, |^\s*[{\[]\s*\"", re.MULTILINE)  # what a pasted text has and no prompt

Prepare = Callable[[dict[str, Any]], dict[str, Any]]


def bind(studio: Any, page: Page, form: Form, panel: results.Panel, prepare: Prepare | None = None,
         extra: dict[str, gr.components.Component] | None = None,
         echo: dict[str, gr.components.Component] | None = None,
         before: Callable[[gr.Button], gr.events.Dependency] | None = None, axes: Axes | None = None) -> None:
    """Wire a tab: Generate, Stop, Skip, and picking up a running job after a reload.

    prepare: makes request values from the form's values and those of `extra` (a mask editor, say), which it
    must remove. It may raise StudioError. echo: hidden boxes that take a value of the request that was sent.
    before: makes an event of the button that runs first. axes: when one is chosen, Generate makes a grid.
    """
    varied = axes.boxes if axes else {}
    inputs = {**form.fields, **(extra or {}), "model": page.model, **varied}
    names = list(inputs)
    outputs = [*panel.outputs, form.fields["seed"], *(echo or {}).values()]
    running = studio.current

    def generate(visitor: str, shown: list, locked: bool, *values: Any) -> Iterator[dict]:
        if alive(running(visitor, form.task)):
            gr.Info("This tab is still making a picture. Wait for it, or press Stop.")
            return
        try:
            named = dict(zip(names, values, strict=True))
            chosen = {name: named.pop(name) for name in varied}
            request = make(form.request, **_without_blanks(form.request, prepare(named) if prepare else named))
            matrix = axes.matrix(request, chosen) if axes else None
            who = {"page": visitor, "owner": results.owner_of(visitor)}
            job = studio.submit_matrix(matrix, **who) if matrix else studio.submit(request, **who)
        except Exception as error:
            message = problem(error)
            yield progress.refuse(panel, message)
            raise toast(message) from None
        yield {**progress.begin(panel), **{box: getattr(request, name) or "" for name, box in (echo or {}).items()}}
        for update in progress.relay(panel, job, shown):
            if locked and update.get(panel.shown):
                update[form.fields["seed"]] = update[panel.shown][0].seed
            yield update or gr.skip()

    def attach(visitor: str) -> Iterator[dict]:
        earlier = results.today(studio, visitor, form.task)
        yield panel.show(earlier, 0)
        job = running(visitor, form.task)
        if job is None:
            return
        if not job.done:
            yield progress.begin(panel, "Still running ...")
        for update in progress.relay(panel, job, earlier, raise_failure=False):
            yield update or gr.skip()

    def stop(visitor: str) -> Any:
        return told(running(visitor, form.task), lambda job: job.stop())

    def skip(visitor: str) -> Any:
        return told(running(visitor, form.task), lambda job: job.skip())

    def reuse(shown: list, selected: int) -> Any:
        return shown[selected].seed if shown else gr.skip()

    def lock(locked: bool, seed: float, shown: list, selected: int) -> Any:
        if not locked:
            return -1
        return shown[selected].seed if seed == -1 and shown else gr.skip()

    start = before(form.generate).then if before else form.generate.click
    start(generate, [page.visitor, panel.shown, form.lock, *inputs.values()], outputs, trigger_mode="once", **QUEUED)
    # The page itself says at once what was pressed. Said by the server, it could arrive after the relay's last word.
    form.stop.click(None, None, panel.status, js="() => 'Stopping ...'", **QUIET)
    form.stop.click(stop, page.visitor, panel.status, **QUIET)
    form.skip.click(None, None, panel.status, js="() => 'Skipping this picture ...'", **QUIET)
    form.skip.click(skip, page.visitor, panel.status, **QUIET)
    form.reuse.click(reuse, [panel.shown, panel.selected], form.fields["seed"], **QUIET)
    form.lock.input(lock, [form.lock, form.fields["seed"], panel.shown, panel.selected], form.fields["seed"], **QUIET)
    results.deletable(studio, panel, page.visitor)
    _paste(studio, form, panel)
    page.returning.append((attach, [page.visitor], panel.outputs))


def filled(form: Form, parsed: metadata.Parsed) -> dict:
    """Updates that bring a picture's settings into a form. What a text leaves out has its default, except for what
    only this kind of request has (strength, mask): that stays as the person set it."""
    if not parsed.fields:
        return {}
    common = {name: value for name, value in parsed.for_task(form.request).items() if name in Request.model_fields}
    said = {**common, **parsed.fields}
    return {form.fields[name]: value for name, value in said.items()
            if name in form.fields and value is not None}


def allowed(studio: Any) -> dict[str, tuple[str, ...]]:
    """What may be chosen by name, for reading a picture's text; a VAE with or without its file's ending."""
    names = [entry.name for entry in studio.collection.vaes()]
    return {"sampler": tuple(SAMPLERS), "schedule": tuple(SCHEDULES),
            "vae": (*names, *(f"{name}{LISTED}" for name in names))}


def _paste(studio: Any, form: Form, panel: results.Panel) -> None:
    """Let settings that are pasted into the prompt fill the form; what could not be read is listed."""

    def read(text: str) -> dict:
        if not SETTINGS.search(text or ""):
            return {}
        found = metadata.parse_any(text, allowed(studio))
        if not found.parsed.fields or set(found.parsed.fields) <= {"prompt", "negative_prompt", "clip_skip"}:
            return {}
        unused = [f"Not used: {name} {value[:80]}" for name, value in found.parsed.unknown.items()]
        return {**filled(form, found.parsed), panel.status: f"Settings read{f' ({found.tool})' if found.tool else ''}.",
                panel.notices: "\n".join([*found.parsed.notes, *unused])}

    form.fields["prompt"].input(read, form.fields["prompt"], [*form.fields.values(), panel.status, panel.notices],
                                trigger_mode="always_last", **QUIET)


def _without_blanks(cls: type[Request], values: dict[str, Any]) -> dict[str, Any]:
    """An empty choice means "as the model likes" where the request has that."""
    return {name: None if value == "" and cls.model_fields[name].default is None else value
            for name, value in values.items()}
