"""The right side of Train: the run that is looked at, and what steers it. All that is shown comes from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from pipelines.errors import StudioError
from pipelines.studio.studio import Studio
from pipelines.studio.works import ResumeRun
from pipelines.training.events import Event
from pipelines.training.run import follow
from pipelines.training.run.follow import RunState

from ...language import said
from ...results import curves
from ...results.progress import waiting_line
from ...tab import Page
from ...visitors import caller
from ...wiring import QUIET, problem
from .weights import Weights

WATCH_EVERY_S = 2
SAMPLES = 60
STEERING = {"pause": "Pause", "stop": "Stop", "sample": "Sample now", "resume": "Resume"}
ANSWERS = {"pause": "Pausing: it saves, and gives the device back. Resume goes on.",
           "sample": "Samples come after this step."}
WITHDRAWN = "Taken out of the queue; nothing was trained."
BUSY = ("waiting", "starting", "running")


@dataclass(frozen=True)
class Watch:
    """The controls of the run. seen: state, what is shown, to notice news. charts: a plot for each curve."""

    run: gr.Dropdown
    clone: gr.Button
    steering: dict[str, gr.Button]
    answer: gr.Textbox
    status: gr.Textbox
    plan: gr.Textbox
    body: gr.Column
    what: gr.Radio
    charts: dict[str, gr.LinePlot]
    gallery: gr.Gallery
    notices: gr.Textbox
    seen: gr.State

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        """What changes while a run goes on; the status comes first."""
        return [self.status, self.plan, self.gallery, self.notices, self.answer, *self.steering.values(), self.seen,
                self.body, *self.charts.values()]


def build(studio: Studio) -> Watch:
    """Build the right side inside the current column."""
    runs = names_of_runs(studio)
    with gr.Row(elem_classes="level"):
        run = gr.Dropdown(runs, value=runs[0] if runs else None, label="Run", filterable=False, elem_id="train-run",
                          info="Runs go on when the page is closed, and can be looked at again at any time.", scale=3)
        clone = gr.Button("Copy its settings", size="md", elem_id="train-clone", scale=1, min_width=60)
    with gr.Row(elem_classes="tools"):
        buttons = {name: gr.Button(label, size="sm", elem_id=f"train-{name}", min_width=60, interactive=False)
                   for name, label in STEERING.items()}
    answer = gr.Textbox("", label="What was asked", show_label=False, container=False, interactive=False, max_lines=2,
                        elem_classes="line", elem_id="train-answer")
    status = gr.Textbox("No run yet. Choose pictures and press Start training.", label="Status", show_label=False,
                        container=False, interactive=False, max_lines=3, elem_classes="line strong",
                        elem_id="train-status")
    plan = gr.Textbox("", label="Forecast", show_label=False, container=False, interactive=False, max_lines=2,
                      elem_classes="line", elem_id="train-plan")
    with gr.Column(visible=bool(runs), min_width=0, elem_classes="run") as body:  # empty boxes would say nothing
        what = gr.Radio(list(curves.CURVES), value=next(iter(curves.CURVES)), label="Curve", show_label=False,
                        container=False, elem_id="train-what")
        # A plot each: one that is there takes in new values, but draws new names and titles with the old values. For
        # the same reason they begin with None, not with an empty frame, whose names are in no visitor's language.
        charts = {name: gr.LinePlot(None, x="step", y="value", color="curve", height=240, label=name, show_label=False,
                                    x_title="step", y_title=" ", color_title=" ", visible=name == what.value,
                                    elem_classes="curve") for name in curves.CURVES}
        gallery = gr.Gallery(label="Samples, newest first: a row for each time, a column for each prompt", columns=4,
                             height=360, object_fit="contain", buttons=[], elem_id="train-samples", interactive=False,
                             visible=False)
        notices = gr.Textbox("", label="Notices", show_label=False, container=False, interactive=False, max_lines=4,
                          elem_classes="line", elem_id="train-notices")
    return Watch(run, clone, buttons, answer, status, plan, body, what, charts, gallery, notices, gr.State([]))


def wire(studio: Studio, page: Page, watch: Watch, weights: Weights, message: gr.Textbox) -> None:
    """Show the chosen run, and let its buttons steer it. message: the line under Start training."""
    Steering(studio, watch).wire(message)
    RunView(studio, page, watch, weights).wire()


@dataclass(frozen=True)
class Steering:
    """The buttons that a run listens to."""

    studio: Studio
    watch: Watch

    def wire(self, message: gr.Textbox) -> None:
        """Bind the buttons to their events. message: the line that said that a run waits."""
        watch = self.watch
        for word in ANSWERS:
            watch.steering[word].click(partial(self.ask, word), watch.run, watch.answer, **QUIET)
        watch.steering["stop"].click(self.stop, watch.run, [watch.answer, message], **QUIET)
        watch.steering["resume"].click(self.resume, watch.run, watch.answer, **QUIET)

    def ask(self, word: str, name: str) -> str:
        """Leave a run a word that it reads after its step. word: of ANSWERS."""
        try:
            self.studio.runs.ask(name, word)
        except Exception as error:
            return problem(error)
        return ANSWERS[word]

    def stop(self, name: str) -> tuple[str, str | dict]:
        """Let a run save and end, or take one that waits out of the queue."""
        try:
            waited = self.studio.training.stop(name)
        except Exception as error:
            return problem(error), gr.skip()
        return WITHDRAWN if waited else "Stopping after this step; everything is saved.", ""  # it begins no more

    def resume(self, name: str) -> str:
        """Let a run go on where it was saved."""
        try:
            job = self.studio.submit(ResumeRun(name), caller())
        except Exception as error:
            return problem(error)
        again = self.studio.runs.card(name).state.saved_step > 0
        told = f"The run {name} goes on where it was." if again else f"The run {name} begins."
        return f"{told} {waiting_line(job.position)}." if job.position else told


@dataclass(frozen=True)
class RunView:
    """What is shown of a run: its status, curves, samples, and the weights that came of it."""

    studio: Studio
    page: Page
    watch: Watch
    weights: Weights

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        """What `show` fills."""
        return [*self.watch.outputs, self.weights.body, self.weights.weights]

    def wire(self) -> None:
        """Look at the chosen run again and again, and at the one that works when a page comes back."""
        watch = self.watch
        gr.on([watch.run.change, gr.Timer(WATCH_EVERY_S).tick], self.show,
              [watch.run, watch.seen, self.weights.weights], self.outputs, **QUIET)
        watch.what.change(self.choose_curve, watch.what, list(watch.charts.values()), **QUIET)
        self.page.returning.append((self.come_back, [], [watch.run, *self.outputs]))

    def show(self, name: str, seen: list, chosen: str | None) -> tuple:
        """Values of `outputs`. seen: what is shown already. chosen: the weights that are."""
        unchanged = (gr.skip(),) * len(self.outputs)
        if not name:
            return unchanged
        try:
            card = self.studio.training.run(name)
        except StudioError as error:
            return (str(error), *unchanged[1:])
        log, state = follow.history(card.folder), card.state
        found = curves.weights(log, name)
        sign = [name, *curves.signature(state, log), *found[:1]]
        if sign == seen:
            return unchanged
        grid, prompts = curves.samples(log, card.folder)
        cache = get_upload_folder()
        pictures = [(save_file_to_cache(path, cache), said(caption)) for path, caption in grid[:SAMPLES]]
        keeps = chosen in found and chosen not in seen[-1:]  # an older one by hand; else the newest is followed
        newest = found[0] if found else None
        return (curves.status_line(state, log), curves.forecast_line(state, log),
                gr.Gallery(pictures, columns=max(1, prompts), visible=bool(pictures)), curves.notices(log),
                _answer(state, seen, name), *_buttons(state), sign, gr.Column(visible=True), *self._plots(log),
                gr.Column(visible=bool(found)), gr.Dropdown(found, value=chosen if keeps else newest))

    def choose_curve(self, what: str) -> list[gr.LinePlot]:
        """Show one of the plots."""
        return [gr.LinePlot(visible=name == what) for name in self.watch.charts]

    def come_back(self) -> dict:
        """Show the run that works or waits, which is what somebody comes back for; else the newest.

        A page's first choice is as old as the app.
        """
        names = names_of_runs(self.studio)
        busy = (name for name in names if self.studio.training.run(name).state.how in BUSY)
        chosen = next(busy, names[0] if names else None)
        values = self.show(chosen, [], None) if chosen else (gr.skip(),) * len(self.outputs)
        return {self.watch.run: gr.Dropdown(names, value=chosen), **dict(zip(self.outputs, values, strict=True))}

    def _plots(self, log: Sequence[Event]) -> list[gr.LinePlot]:
        colours = {said(curve): colour for curve, colour in curves.COLOUR_OF.items()}
        return [gr.LinePlot(curves.frame(log, what, said), color_map=colours, x_title=said("step"))
                for what in self.watch.charts]


def _answer(state: RunState, seen: list, name: str) -> str | dict:
    """What was asked stays said until it is done, or over."""
    if state.is_alive or state.how == "waiting":
        return gr.skip()
    return WITHDRAWN if seen[:2] == [name, "waiting"] and state.how not in ("failed", "killed") else ""


def _buttons(state: RunState) -> list[gr.Button]:
    can = dict.fromkeys(STEERING, state.is_alive)
    can |= {"stop": state.is_alive or state.how == "waiting", "resume": state.can_resume}
    return [gr.Button(interactive=can[word]) for word in STEERING]


def names_of_runs(studio: Studio) -> list[str]:
    """The runs, newest first."""
    return [card.name for card in studio.runs.cards()]
