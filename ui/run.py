"""Between a form and the studio: values become a request by name, and a job's news go to the panel."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gradio as gr

from pipelines import metadata
from pipelines.errors import RequestError
from pipelines.generation.samplers import SAMPLERS, SCHEDULES
from pipelines.queue.job import Job
from pipelines.requests import HIRES_UPSCALERS, LANCZOS, TASKS, Img2Img, Request, Txt2Img, Upscale, extra_of, make
from pipelines.studio.assets import LISTED
from pipelines.studio.studio import Studio
from pipelines.studio.works import DrawSeries
from pipelines.sweeps.grid import Matrix

from . import visitors
from .forms.axes import Axes
from .forms.batch_input import Many
from .results import panel as results
from .results import progress, rerun
from .tab import Form, Page
from .wiring import QUEUED, QUIET, alive, inform, problem, toast, told

# What a pasted text has and no prompt.
SETTINGS = re.compile(r"^\s*Steps:\s*\d+\s*(,|$)|\sSteps: \d+, (Sampler|Schedule type|CFG scale|Seed|Size|Model): "
                      r"|^\s*[{\[]\s*\"", re.MULTILINE)

Prepare = Callable[[dict[str, object]], dict[str, object]]
Boxes = dict[str, gr.components.Component]


@dataclass(frozen=True)
class TabRun:
    """What happens between a tab's form and its results: Generate, Stop, Skip, Again with, and coming back.

    prepare: makes request values from the form's values and those of `extra` (a mask editor, say), which it must
    remove. It may raise StudioError. echo: hidden boxes that take a value of the request that was sent. before: makes
    an event of the button that runs first. axes: when one is chosen, Generate makes a grid. many: when it has prompts
    or pictures, Generate makes all of them.
    """

    studio: Studio
    page: Page
    form: Form
    panel: results.Panel
    prepare: Prepare | None = None
    extra: Boxes = field(default_factory=dict)
    echo: Boxes = field(default_factory=dict)
    before: Callable[[gr.Button], gr.events.Dependency] | None = None
    axes: Axes = field(default_factory=Axes)
    many: Many = field(default_factory=Many)

    @property
    def varied(self) -> Boxes:
        """Controls that say how the request is varied, and are no part of it."""
        return {**self.axes.boxes, **self.many.boxes}

    @property
    def inputs(self) -> Boxes:
        """Every control that Generate reads, by name."""
        return {**self.form.fields, **self.extra, "model": self.page.model, **self.varied}

    def wire(self) -> None:
        """Bind the buttons of the tab to their events."""
        form, panel, page = self.form, self.panel, self.page
        # Before what else a click does: a page runs the events of one click in their order, each when the last has
        # ended.
        gr.on([form.generate.click, *(button.click for button in panel.again.values())], None, panel.status,
              panel.status, js=f"(said) => atelier.starting('{form.generate.elem_id}', said)", **QUIET)
        outputs = [*panel.outputs, form.fields["seed"], page.queue, *self.echo.values()]
        state = [page.visitor, panel.shown, panel.selected, form.lock]
        handlers = {form.generate: self.generate}
        handlers |= {button: partial(self.draw_again, change) for change, button in panel.again.items()}
        for button, handler in handlers.items():
            start = self.before(button).then if self.before else button.click
            start(handler, [*state, *self.inputs.values()], outputs, trigger_mode="once", **QUEUED)
        # The page itself says at once what was pressed. Said by the server, it could arrive after the relay's last
        # word.
        form.stop.click(None, None, panel.status, js="() => atelier.word('Stopping ...')", **QUIET)
        form.stop.click(self.stop, page.visitor, panel.status, **QUIET)
        form.skip.click(None, None, panel.status, js="() => atelier.word('Skipping this picture ...')", **QUIET)
        form.skip.click(self.skip, page.visitor, panel.status, **QUIET)
        form.reuse.click(reuse_seed, [panel.shown, panel.selected], form.fields["seed"], **QUIET)
        form.lock.input(lock_seed, [form.lock, form.fields["seed"], panel.shown, panel.selected], form.fields["seed"],
                        **QUIET)
        results.deletable(self.studio, panel, page.visitor)
        _paste(self.studio, form, panel)
        page.follow_again(form.task, self.attach, panel.outputs)

    def generate(self, visitor: str, shown: list, selected: int, locked: bool, *values: Any) -> Iterator[dict]:
        """Make what the form says: pictures, a grid, or many at once."""
        yield from self._relay(self._as_the_form_says, visitor, shown, locked, values)

    def draw_again(self, change: str, visitor: str, shown: list, selected: int, locked: bool,
                   *values: Any) -> Iterator[dict]:
        """Make the chosen picture again with one change; its own settings and seed stay. change: of rerun.py."""
        def build(named: dict[str, object]) -> Request:
            if not shown:
                raise RequestError("There is no picture yet to make again.")
            said = metadata.parse(shown[selected].infotext).for_task(self.form.request)
            own = {name: value for name, value in named.items() if name not in self.varied}
            of_form = self._request(own).model_dump()
            model = said["model"] or of_form["model"]
            return make(self.form.request,
                        **rerun.values(change, self.form.request, {**said, "model": model}, of_form))

        yield from self._relay(build, visitor, shown, False, values)

    def attach(self, visitor: str) -> Iterator[dict]:
        """Show the pictures of today, and follow a job that still runs."""
        earlier = results.today(self.studio, visitor, self.form.task)
        yield self.panel.show(earlier, 0)
        job = self._running(visitor)
        if job is None:
            return
        if not job.done:
            yield progress.begin(self.panel, "Still running ...")
        for update in progress.relay(self.panel, job, earlier, raise_failure=False):
            yield update or gr.skip()

    def stop(self, visitor: str) -> str | dict:
        """End the page's job within one step."""
        return told(self._running(visitor), lambda job: job.stop())

    def skip(self, visitor: str) -> str | dict:
        """Leave the picture that is being made."""
        return told(self._running(visitor), lambda job: job.skip())

    def _running(self, visitor: str) -> Job | None:
        return self.studio.current(visitors.page_of(visitor), self.form.task)

    def _request(self, named: dict[str, object]) -> Request:
        values = self.prepare(named) if self.prepare else named
        return make(self.form.request, **_without_blanks(self.form.request, values))

    def _as_the_form_says(self, named: dict[str, object]) -> Request | Matrix | DrawSeries:
        chosen = {name: named.pop(name) for name in self.varied}
        prompts = self.many.prompts(chosen, self.form.request) if self.many.boxes else []
        pictures = self.many.pictures(self.studio, chosen)
        if pictures and not named.get("image"):
            named["image"] = pictures[0]
        request = self._request(named)
        matrix = self.axes.matrix(request, chosen) if self.axes.boxes else None
        if matrix and (prompts or pictures):
            raise RequestError("Grid: it cannot be made of many prompts or pictures at once. Empty one of the two.")
        if prompts or pictures:
            return DrawSeries(request, prompts, pictures)
        return matrix or request

    def _relay(self, build: Callable[[dict[str, object]], Request | Matrix | DrawSeries], visitor: str, shown: list,
               locked: bool, values: tuple) -> Iterator[dict]:
        """Submit what `build` makes of the form's values, and relay the job's news."""
        if alive(self._running(visitor)):
            inform("This tab is still making a picture. Wait for it, or press Stop.")
            return
        try:
            asked = build(dict(zip(self.inputs, values, strict=True)))
            job = self.studio.submit(asked, visitors.caller(visitor))
        except Exception as error:
            message = problem(error)
            yield progress.refuse(self.panel, message)
            raise toast(message) from None
        request = getattr(job.request, "base", job.request)
        echoed = {box: getattr(request, name) or "" for name, box in self.echo.items()}
        yield {**progress.begin(self.panel), **echoed}
        for update in progress.relay(self.panel, job, shown):
            if locked and update.get(self.panel.shown):
                update[self.form.fields["seed"]] = str(update[self.panel.shown][0].seed)
            if job.done:  # else the line would say for seconds, until its timer comes, that one is in the queue
                update[self.page.queue] = progress.queue_line(self.studio)
            yield update or gr.skip()


def reuse_seed(shown: list, selected: int) -> str | dict:
    """The seed of the chosen picture, for the form."""
    return str(shown[selected].seed) if shown else gr.skip()


def lock_seed(locked: bool, seed: str, shown: list, selected: int) -> str | dict:
    """The seed that stays when the lock closes; a random one when it opens."""
    if not locked:
        return "-1"
    return str(shown[selected].seed) if seed.strip() == "-1" and shown else gr.skip()


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
            yield info.title or name, f"{value:g}" if isinstance(value, float) else str(value)


def allowed(studio: Studio) -> dict[str, tuple[str, ...]]:
    """What may be chosen by name, for reading a picture's text; a VAE with or without its file's ending."""
    names = [entry.name for entry in studio.collection.vaes()]
    learned = studio.upscalers.names()[1:]
    return {"sampler": tuple(SAMPLERS), "schedule": tuple(SCHEDULES),
            "hires_upscaler": (*HIRES_UPSCALERS, *learned), "upscaler": (LANCZOS, *learned),
            "vae": (*names, *(f"{name}{LISTED}" for name in names))}


def _paste(studio: Studio, form: Form, panel: results.Panel) -> None:
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
        picked = {form.page.model: model} if model in {card.name for card in studio.collection.cards()} else {}
        return {**update, **picked,
                panel.status: f"Settings read{f' ({found.tool})' if found.tool else ''}.",
                panel.notices: "\n".join([*found.parsed.notes, *unused, *parsed.notes[len(found.parsed.notes):]])}

    # Not `input`: Gradio's text box says it for keys only, not for what is pasted.
    form.fields["prompt"].change(read, form.fields["prompt"],
                                 [*form.fields.values(), form.page.model, panel.status, panel.notices],
                                 trigger_mode="always_last", **QUIET)


def _without_blanks(cls: type[Request], values: dict[str, object]) -> dict[str, object]:
    """An empty choice means "as the model likes" where the request has that."""
    return {name: None if value == "" and cls.model_fields[name].default is None else value
            for name, value in values.items()}
