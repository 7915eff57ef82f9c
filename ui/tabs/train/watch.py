"""The right side of Train: start a run, watch it, steer it. All that is shown comes from the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from pipelines.errors import StudioError
from pipelines.studio.works import ResumeRun, Train
from pipelines.training.run import follow

from ...forms.controls import find_card
from ...language import named, said
from ...results import curves
from ...results.progress import waiting_line
from ...tab import Page
from ...visitors import caller
from ...wiring import QUEUED, QUIET, guarded, problem
from . import knobs

WATCH_EVERY_S = 2
SAMPLES = 60
STEERING = {"pause": "Pause", "stop": "Stop", "sample": "Sample now", "resume": "Resume"}
WITHDRAWN = "Taken out of the queue; nothing was trained."
PARTS = ("status", "plan", "gallery", "told", "answer", *STEERING, "seen", "body")


def build(studio: Any) -> dict[str, gr.components.Component]:
    runs = _runs(studio)
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
        told = gr.Textbox("", label="Notices", show_label=False, container=False, interactive=False, max_lines=4,
                          elem_classes="line", elem_id="train-notices")
    return {**buttons, "run": run, "clone": clone, "answer": answer, "status": status, "plan": plan, "what": what,
            "charts": charts, "gallery": gallery, "told": told, "seen": gr.State([]), "body": body}


def wire(studio: Any, page: Page, data: dict, form: dict, run: dict, made: dict) -> None:
    fields = knobs.names(form)
    charts = run["charts"]
    shown = [*(run[name] for name in PARTS), made["body"], made["weights"], *charts.values()]

    def begin(only_probe: bool) -> Callable:
        def start(dataset: str, model: str, trigger: str, used: Sequence[str], *values: Any) -> tuple[Any, str]:
            try:
                given = knobs.given(fields, values)
                if not given["sample_every"]:
                    chosen = {name: given[name] for name in knobs.FORECAST_OF if name in given}
                    # Five times in a run, unless somebody says otherwise.
                    given["sample_every"] = max(1, knobs.concrete(find_card(studio, model), used, chosen).steps // 5)
                asked = Train(dataset, {"model": model, "trigger": trigger, **given}, only_probe)
                job = studio.submit(asked, caller())
            except Exception as error:
                return gr.skip(), problem(error)
            place = f" {waiting_line(job.position)}." if job.position else ""
            told = "Trying a few steps" if only_probe else f"The run {given['name']} begins"
            return gr.Dropdown(_runs(studio), value=given["name"]), f"{told}.{place}"
        return start

    def stop(name: str) -> tuple[str, str]:
        try:
            waited = studio.training.stop(name)
        except Exception as error:
            return problem(error), gr.skip()
        return WITHDRAWN if waited else "Stopping after this step; everything is saved.", ""  # it begins no more

    def asked(word: str, done: str) -> Callable:
        def ask(name: str) -> str:
            try:
                studio.runs.ask(name, word)
            except Exception as error:
                return problem(error)
            return done
        return ask

    def resume(name: str) -> str:
        try:
            job = studio.submit(ResumeRun(name), caller())
        except Exception as error:
            return problem(error)
        again = studio.runs.card(name).state.saved_step > 0
        told = f"The run {name} goes on where it was." if again else f"The run {name} begins."
        return f"{told} {waiting_line(job.position)}." if job.position else told

    def clone(name: str) -> dict:
        config = studio.runs.card(name).config
        update = knobs.filled(studio, form, config) | {data["trigger"]: config.trigger}
        dataset = studio.datasets.name_of(Path(config.data))
        if dataset:
            update[data["dataset"]] = gr.Dropdown(named(studio.datasets.names()), value=dataset)
        model = next((card.name for card in studio.collection.cards() if str(card.path) == config.model), None)
        if model:
            update[page.model] = model
        gone = [word for word, found in (("pictures", dataset), ("model", model)) if not found]
        lost = f"Its {' and '.join(gone)} are not here any more; yours stay chosen." if gone else ""
        return {**update, form["message"]: f"The settings of {name} are in the form. {lost}".strip()}

    def show(name: str, seen: list, weights: str | None) -> tuple:
        if not name:
            return (gr.skip(),) * len(shown)
        try:
            card = studio.training.run(name)
        except StudioError as error:
            return (str(error), *(gr.skip(),) * (len(shown) - 1))
        log, state = follow.history(card.folder), card.state
        found = curves.weights(log, name)
        sign = [name, *curves.signature(state, log), *found[:1]]
        if sign == seen:
            return (gr.skip(),) * len(shown)
        cache, running = get_upload_folder(), state.is_alive
        grid, prompts = curves.samples(log, card.folder)
        pictures = [(save_file_to_cache(path, cache), said(caption)) for path, caption in grid[:SAMPLES]]
        colours = {said(curve): colour for curve, colour in curves.COLOUR_OF.items()}
        plots = [gr.LinePlot(curves.frame(log, what, said), color_map=colours, x_title=said("step")) for what in charts]
        chosen = weights in found and weights not in seen[-1:]  # an older one by hand; else the newest is followed
        waits = state.how == "waiting"
        if running or waits:
            answer = gr.skip()
        else:  # what was asked is done, or over
            answer = WITHDRAWN if seen[:2] == [name, "waiting"] and state.how not in ("failed", "killed") else ""
        can = dict.fromkeys(STEERING, running) | {"stop": running or waits, "resume": state.can_resume}
        return (curves.status_line(state, log), curves.forecast_line(state, log),
                gr.Gallery(pictures, columns=max(1, prompts), visible=bool(pictures)), curves.notices(log),
                answer, *(gr.Button(interactive=can[word]) for word in STEERING), sign,
                gr.Column(visible=True), gr.Column(visible=bool(found)),
                gr.Dropdown(found, value=weights if chosen else found[0] if found else None), *plots)

    inputs = [data["dataset"], page.model, data["trigger"], data["used"], *(form[name] for name in fields)]
    for button, only_probe in ((form["start"], False), (form["probe"], True)):
        button.click(begin(only_probe), inputs, [run["run"], form["message"]], trigger_mode="once", **QUEUED)
    for word, done in (("pause", "Pausing: it saves, and gives the device back. Resume goes on."),
                       ("sample", "Samples come after this step.")):
        run[word].click(asked(word, done), run["run"], run["answer"], **QUIET)
    run["stop"].click(stop, run["run"], [run["answer"], form["message"]], **QUIET)
    run["resume"].click(resume, run["run"], run["answer"], **QUIET)
    run["clone"].click(guarded(clone), run["run"], [*(form[name] for name in fields), data["trigger"],
                                                    data["dataset"], page.model, form["message"]], **QUEUED)
    gr.on([run["run"].change, gr.Timer(WATCH_EVERY_S).tick], show, [run["run"], run["seen"], made["weights"]], shown,
          **QUIET)
    run["what"].change(lambda what: [gr.LinePlot(visible=name == what) for name in charts], run["what"],
                       list(charts.values()), **QUIET)

    def again() -> dict:
        names = _runs(studio)
        # What works or waits is what somebody comes back for; a page's first choice is as old as the app.
        busy = (name for name in names if studio.training.run(name).state.how in ("waiting", "starting", "running"))
        chosen = next(busy, names[0] if names else None)
        values = show(chosen, [], None) if chosen else (gr.skip(),) * len(shown)
        return {run["run"]: gr.Dropdown(names, value=chosen), **dict(zip(shown, values, strict=True))}

    page.returning.append((again, [], [run["run"], *shown]))


def _runs(studio: Any) -> list[str]:
    return [card.name for card in studio.runs.cards()]
