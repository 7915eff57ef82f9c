"""Between a form and the studio: values become a request by name, and a job's news go to the panel."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gradio as gr

from pipelines import metadata
from pipelines.errors import RequestError
from pipelines.generation.samplers import SAMPLERS, SCHEDULES
from pipelines.requests import HIRES_UPSCALERS, LANCZOS, TASKS, Img2Img, Request, Txt2Img, Upscale, extra_of, make
from pipelines.studio.assets import LISTED

from . import visitors
from .forms.axes import Axes
from .forms.batch_input import Many
from .language import speaker
from .results import panel as results
from .results import progress, rerun
from .tab import Form, Page
from .wiring import QUEUED, QUIET, alive, inform, problem, toast, told

# What a pasted text has and no prompt.
SETTINGS = re.compile(r"^\s*Steps:\s*\d+\s*(,|$)|\sSteps: \d+, (Sampler|Schedule type|CFG scale|Seed|Size|Model): "
                      r"|^\s*[{\[]\s*\"", re.MULTILINE)

Prepare = Callable[[dict[str, Any]], dict[str, Any]]


def bind(studio: Any, page: Page, form: Form, panel: results.Panel, prepare: Prepare | None = None,
         extra: dict[str, gr.components.Component] | None = None,
         echo: dict[str, gr.components.Component] | None = None,
         before: Callable[[gr.Button], gr.events.Dependency] | None = None, axes: Axes | None = None,
         many: Many | None = None) -> None:
    """Wire a tab: Generate, Stop, Skip, Again with, and picking up a running job after a reload.

    prepare: makes request values from the form's values and those of `extra` (a mask editor, say), which it
    must remove. It may raise StudioError. echo: hidden boxes that take a value of the request that was sent.
    before: makes an event of the button that runs first. axes: when one is chosen, Generate makes a grid. many:
    when it has prompts or pictures, Generate makes all of them.
    """
    axes, many = axes or Axes(), many or Many()
    varied = {**axes.boxes, **many.boxes}
    inputs = {**form.fields, **(extra or {}), "model": page.model, **varied}
    names = list(inputs)
    outputs = [*panel.outputs, form.fields["seed"], page.queue, *(echo or {}).values()]

    def running(visitor: str, task: str) -> Any:
        return studio.current(visitors.page_of(visitor), task)

    def generate(visitor: str, shown: list, selected: int, locked: bool, *values: Any) -> Iterator[dict]:
        def submit(named: dict[str, Any], **who: Any) -> Any:
            chosen = {name: named.pop(name) for name in varied}
            prompts = many.prompts(chosen, form.request) if many.boxes else []
            pictures = many.pictures(studio, chosen)
            if pictures and not named.get("image"):
                named["image"] = pictures[0]
            request = asked(named)
            matrix = axes.matrix(request, chosen) if axes.boxes else None
            if matrix and (prompts or pictures):
                raise RequestError("Grid: it cannot be made of many prompts or pictures at once. Empty one of the two.")
            if prompts or pictures:
                return studio.submit_series(request, prompts, pictures, **who)
            return studio.submit_matrix(matrix, **who, say=speaker()) if matrix else studio.submit(request, **who)

        yield from run(submit, visitor, shown, locked, values)

    def once_more(change: str, visitor: str, shown: list, selected: int, locked: bool, *values: Any) -> Iterator[dict]:
        def submit(named: dict[str, Any], **who: Any) -> Any:
            if not shown:
                raise RequestError("There is no picture yet to make again.")
            said = metadata.parse(shown[selected].infotext).for_task(form.request)
            of_form = asked({name: value for name, value in named.items() if name not in varied}).model_dump()
            model = said["model"] or of_form["model"]
            return studio.submit(make(form.request, **rerun.values(change, form.request, {**said, "model": model},
                                                                   of_form)), **who)

        yield from run(submit, visitor, shown, False, values)

    def asked(named: dict[str, Any]) -> Request:
        return make(form.request, **_without_blanks(form.request, prepare(named) if prepare else named))

    def run(submit: Callable, visitor: str, shown: list, locked: bool, values: tuple) -> Iterator[dict]:
        """Submit what the form says, and relay the job's news. submit: (the form's values, page, owner) -> job."""
        if alive(running(visitor, form.task)):
            inform("This tab is still making a picture. Wait for it, or press Stop.")
            return
        try:
            job = submit(dict(zip(names, values, strict=True)), **visitors.who(visitor))
        except Exception as error:
            message = problem(error)
            yield progress.refuse(panel, message)
            raise toast(message) from None
        request = getattr(job.request, "base", job.request)
        yield {**progress.begin(panel), **{box: getattr(request, name) or "" for name, box in (echo or {}).items()}}
        for update in progress.relay(panel, job, shown):
            if locked and update.get(panel.shown):
                update[form.fields["seed"]] = update[panel.shown][0].seed
            if job.done:  # else the line would say for seconds, until its timer comes, that one is in the queue
                update[page.queue] = progress.queue_line(studio)
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

    # Before what else a click does: a page runs the events of one click in their order, each when the last has ended.
    gr.on([form.generate.click, *(button.click for button in panel.again.values())], None, panel.status, panel.status,
          js=f"(said) => atelier.starting('{form.generate.elem_id}', said)", **QUIET)
    for button, handler in {form.generate: generate, **{button: partial(once_more, change)
                                                        for change, button in panel.again.items()}}.items():
        start = before(button).then if before else button.click
        start(handler, [page.visitor, panel.shown, panel.selected, form.lock, *inputs.values()], outputs,
              trigger_mode="once", **QUEUED)
    # The page itself says at once what was pressed. Said by the server, it could arrive after the relay's last word.
    form.stop.click(None, None, panel.status, js="() => atelier.word('Stopping ...')", **QUIET)
    form.stop.click(stop, page.visitor, panel.status, **QUIET)
    form.skip.click(None, None, panel.status, js="() => atelier.word('Skipping this picture ...')", **QUIET)
    form.skip.click(skip, page.visitor, panel.status, **QUIET)
    form.reuse.click(reuse, [panel.shown, panel.selected], form.fields["seed"], **QUIET)
    form.lock.input(lock, [form.lock, form.fields["seed"], panel.shown, panel.selected], form.fields["seed"], **QUIET)
    results.deletable(studio, panel, page.visitor)
    _paste(studio, form, panel)
    page.follow_again(form.task, attach, panel.outputs)


def filled(form: Form, parsed: metadata.Parsed) -> dict:
    """Updates that bring a picture's settings into a form. What a text leaves out has its default, except for what
    only this kind of request has (strength, mask): that stays as the person set it. So does a strength that was
    meant for something else: that of a second pass would draw the whole prompt into every tile of an enlarged one."""
    if not parsed.fields:
        return {}
    meant_for = Txt2Img if "hires_scale" in parsed.fields else Upscale if "scale" in parsed.fields else Img2Img
    foreign = set() if issubclass(form.request, meant_for) else {"strength"}
    common = {name: value for name, value in parsed.for_task(form.request).items() if name in Request.model_fields}
    return {form.fields[name]: value for name, value in {**common, **parsed.fields}.items()
            if name in form.fields and name not in foreign and value is not None
            and (name == "prompt" or extra_of(form.request.model_fields[name])["infotext"])}


def elsewhere(form: Form, parsed: metadata.Parsed) -> Iterator[tuple[str, str]]:
    """(title, value) of what a text says for another kind of request than the form's."""
    twin = "strength" if "hires_scale" in parsed.fields else "hires_strength"  # one key of the text stands for either
    for name, value in parsed.fields.items():
        if name in form.request.model_fields or name == twin:
            continue
        info = next(cls.model_fields[name] for cls in TASKS.values() if name in cls.model_fields)
        if value not in (None, "", info.default):
            yield info.title, f"{value:g}" if isinstance(value, float) else str(value)


def allowed(studio: Any) -> dict[str, tuple[str, ...]]:
    """What may be chosen by name, for reading a picture's text; a VAE with or without its file's ending."""
    names = [entry.name for entry in studio.collection.vaes()]
    learned = studio.upscalers.names()[1:]
    return {"sampler": tuple(SAMPLERS), "schedule": tuple(SCHEDULES),
            "hires_upscaler": (*HIRES_UPSCALERS, *learned), "upscaler": (LANCZOS, *learned),
            "vae": (*names, *(f"{name}{LISTED}" for name in names))}


def _paste(studio: Any, form: Form, panel: results.Panel) -> None:
    """Let settings that are pasted into the prompt fill the form; what could not be read is listed."""

    def read(text: str) -> dict:
        if not SETTINGS.search(text or ""):
            return gr.skip()
        found = metadata.parse_any(text, allowed(studio))
        if not found.parsed.fields or set(found.parsed.fields) <= {"prompt", "negative_prompt", "clip_skip"}:
            return gr.skip()
        parsed = studio.collection.settle(found.parsed)
        update, model = filled(form, parsed), parsed.fields.get("model")
        unused = [f"Not used: {name} {value[:80]}" for name, value in parsed.unknown.items()]
        unused += [f"Not used: {title} {value[:80]}" for title, value in elsewhere(form, parsed)]
        picked = {form.page.model: model} if model in {card.name for card in studio.cards()} else {}
        return {**update, **picked,
                panel.status: f"Settings read{f' ({found.tool})' if found.tool else ''}.",
                panel.notices: "\n".join([*found.parsed.notes, *unused, *parsed.notes[len(found.parsed.notes):]])}

    # Not `input`: Gradio's text box says it for keys only, not for what is pasted.
    form.fields["prompt"].change(read, form.fields["prompt"],
                                 [*form.fields.values(), form.page.model, panel.status, panel.notices],
                                 trigger_mode="always_last", **QUIET)


def _without_blanks(cls: type[Request], values: dict[str, Any]) -> dict[str, Any]:
    """An empty choice means "as the model likes" where the request has that."""
    return {name: None if value == "" and cls.model_fields[name].default is None else value
            for name, value in values.items()}
