"""Train a LoRA: pictures, what and how long, and the run with its curves, samples and weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from pipelines.errors import RequestError, StudioError
from pipelines.training import follow, presets
from pipelines.training.dataset import Picture
from pipelines.training.request import TrainLora

from .. import curves
from ..controls import find_card
from ..fields import make_control
from ..progress import waiting_line
from ..tab import Page, Tab
from ..wiring import QUEUED, QUIET, apart, guarded, problem

WATCH_EVERY_S = 2
THUMBNAILS = 60
FRONT = ("name", "goal", "length")
# Fields behind "Advanced", by what a person thinks of. What is not named is set from the command line.
GROUPS: dict[str, tuple[str, ...]] = {
    "Captions": ("prefix", "suffix", "shuffle", "keep_first", "caption_dropout"),
    "Network": ("method", "targets", "text_encoder", "rank", "alpha", "dropout", "rslora", "dora"),
    "Steps": ("steps", "batch_size", "accumulation", "learning_rate", "scheduler", "warmup", "optimizer",
              "weight_decay", "max_grad_norm", "ema", "seed"),
    "Pictures": ("resolution", "buckets", "crop", "flip", "repeats", "masked"),
    "Loss": ("min_snr_gamma", "debiased", "noise_offset"),
    "Samples, saves and measuring": ("sample_every", "sample_steps", "save_every", "keep_last", "validation",
                                     "validate_every", "early_stop", "keep_best", "precision",
                                     "gradient_checkpointing"),
}
AUTO = "auto"
FIRST = {"name": "my-lora", "length": "fast"}  # of the form; a file's defaults are the config's own


def build(studio: Any, page: Page) -> None:
    """Build the tab inside the current Blocks."""
    with gr.Row(elem_classes="workspace"):
        with gr.Column(elem_classes="ask", min_width=0):
            data = _data(studio, page)
        with gr.Column(elem_classes="knobs", min_width=0):
            knobs = _knobs(page)
        with gr.Column(elem_classes="results", min_width=0):
            watch = _watch(studio)
    _wire_data(studio, page, data, knobs)
    _wire_run(studio, page, data, knobs, watch)


def _data(studio: Any, page: Page) -> dict[str, gr.components.Component]:
    gr.Markdown("### 1. Pictures", elem_classes="step")
    with gr.Row():
        dataset = gr.Dropdown(list(studio.datasets.names()), value=studio.datasets.names()[0], label="Dataset",
                              info="Pictures that were uploaded before, and an example to try.", filterable=False,
                              elem_id="train-dataset", min_width=120)
        trigger = make_control(TrainLora.model_fields["trigger"], "trigger", "train-trigger", "", min_width=120)
    upload = gr.File(label="Drop pictures, their captions, or a zip", file_count="multiple", height=128,
                     file_types=[".png", ".jpg", ".jpeg", ".webp", ".txt", ".caption", ".jsonl", ".zip"],
                     type="filepath", elem_id="train-upload")
    verdict = gr.Textbox("", label="What was found", show_label=False, container=False, interactive=False,
                         max_lines=2, elem_classes="line strong", elem_id="train-verdict")
    thumbs = gr.Gallery(label="Pictures of the dataset", show_label=False, columns=8, rows=1, allow_preview=False,
                        buttons=[], elem_classes="strip", elem_id="train-pictures", interactive=False)
    with gr.Accordion("Look at every picture and caption", open=False, elem_classes="more", elem_id="train-captions"):
        table = gr.Dataframe(headers=["picture", "verdict", "why", "caption"], datatype="str", type="array",
                             column_count=(4, "fixed"), static_columns=[0, 1, 2], wrap=True, max_height=320,
                             label="Captions can be typed over", elem_id="train-table")
        with gr.Row():
            find = gr.Textbox("", label="Find in captions", elem_id="train-find", min_width=100)
            put = gr.Textbox("", label="Replace with", elem_id="train-replace", min_width=100)
        with gr.Row():
            swap = gr.Button("Replace", size="sm", elem_id="train-swap", min_width=60)
            undo = gr.Button("Undo", size="sm", elem_id="train-undo", min_width=60)
    page.remembered["train.trigger"] = trigger
    return {"dataset": dataset, "trigger": trigger, "upload": upload, "verdict": verdict, "thumbs": thumbs,
            "table": table, "find": find, "put": put, "swap": swap, "undo": undo, "before": gr.State([]),
            "used": gr.State(0)}


def _knobs(page: Page) -> dict[str, gr.components.Component]:
    gr.Markdown("### 2. What, and how long", elem_classes="step")
    fields: dict[str, gr.components.Component] = {}

    def add(name: str, **overrides: Any) -> None:
        info = TrainLora.model_fields[name]
        value = FIRST.get(name, info.default)
        fields[name] = _optional(name, info) if info.default is None else \
            make_control(info, name, f"train-{name.replace('_', '-')}", value, min_width=100, **overrides)
        page.remembered[f"train.{name}"] = fields[name]

    with gr.Row():
        for name in FRONT:
            add(name)
    forecast = gr.Textbox("", label="What this means", show_label=False, container=False, interactive=False,
                          max_lines=3, elem_classes="line", elem_id="train-forecast")
    with gr.Row(elem_classes="actions"):
        start = gr.Button("Start training", variant="primary", size="lg", scale=6, min_width=120,
                          elem_classes="generate", elem_id="train-start")
        pause = gr.Button("Pause", size="lg", scale=2, min_width=64, elem_id="train-pause")
        stop = gr.Button("Stop", size="lg", scale=2, min_width=64, elem_id="train-stop")
    message = gr.Textbox("", label="Message", show_label=False, container=False, interactive=False, max_lines=3,
                         elem_classes="line strong", elem_id="train-message")
    for title, names in GROUPS.items():
        with gr.Accordion(title, open=False, elem_classes="more", elem_id=f"train-{title.split(',')[0].lower()}"):
            for left in range(0, len(names), 2):
                with gr.Row():
                    for name in names[left:left + 2]:
                        add(name)
            if title.startswith("Samples"):
                prompts = gr.Textbox("", label="Sample prompts", lines=2, elem_id="train-sample-prompts",
                                     info="One a line. Without any, captions of the pictures are drawn.")
                page.remembered["train.sample_prompts"] = prompts
    return {**fields, "sample_prompts": prompts, "forecast": forecast, "start": start, "pause": pause, "stop": stop,
            "message": message}


def _optional(name: str, info: Any) -> gr.Textbox:
    """A number that is left to the preset unless somebody types one."""
    return gr.Textbox("", label=info.title, info=f"{info.description} Empty: as the preset says.", placeholder=AUTO,
                      elem_id=f"train-{name.replace('_', '-')}", min_width=100, max_lines=1)


def _watch(studio: Any) -> dict[str, gr.components.Component]:
    runs = [card.name for card in studio.runs.cards()]
    with gr.Row(elem_classes="level"):
        run = gr.Dropdown(runs, value=runs[0] if runs else None, label="Run", filterable=False, elem_id="train-run",
                          info="Runs go on when the page is closed, and can be looked at again at any time.", scale=3)
        resume = gr.Button("Resume", size="md", elem_id="train-resume", scale=1, min_width=60)
        sample = gr.Button("Sample now", size="md", elem_id="train-sample", scale=1, min_width=60)
    status = gr.Textbox("No run yet. Choose pictures on the left and press Start training.", label="Status",
                        show_label=False, container=False, interactive=False, max_lines=3,
                        elem_classes="line strong", elem_id="train-status")
    chart = gr.LinePlot(curves.loss_frame([]), x="step", y="loss", color="curve", height=240, label="Loss",
                        show_label=False, x_title="step", y_title="loss", elem_id="train-chart")
    gallery = gr.Gallery(label="Samples, newest first", columns=4, height=360, object_fit="contain", buttons=[],
                         elem_id="train-samples", interactive=False)
    with gr.Row(elem_classes="level"):
        weights = gr.Dropdown([], label="Weights", info="Every saved checkpoint can be used in a prompt at once.",
                              filterable=False, elem_id="train-weights", scale=3)
        use = gr.Button("Use in Text to image", size="md", elem_id="train-use", scale=2, min_width=100)
    told = gr.Textbox("", label="Notices", show_label=False, container=False, interactive=False, max_lines=4,
                      elem_classes="line", elem_id="train-notices")
    return {"run": run, "resume": resume, "sample": sample, "status": status, "chart": chart, "gallery": gallery,
            "weights": weights, "use": use, "told": told, "seen": gr.State([])}


def _wire_data(studio: Any, page: Page, data: dict, knobs: dict) -> None:
    shown = [data["verdict"], data["thumbs"], data["table"], data["used"], knobs["forecast"]]
    choices = [knobs["goal"], knobs["length"], knobs["steps"], knobs["rank"], knobs["batch_size"]]

    def look(dataset: str, model: str, *chosen: Any) -> tuple:
        card = find_card(studio, model)
        try:
            pictures = studio.datasets.look(dataset, resolution=card.native_size,
                                            count_tokens=lambda text: studio.tokens(text, card.name).count)
        except StudioError as error:
            return str(error), [], [], 0, ""
        used = sum(picture.used for picture in pictures)
        rows = [[picture.name, picture.verdict, "; ".join(picture.reasons), picture.caption] for picture in pictures]
        return _found(pictures), _thumbs(pictures), rows, used, _forecast(card, used, *chosen)

    def forecast(model: str, used: int, *chosen: Any) -> str:
        return _forecast(find_card(studio, model), used, *chosen)

    def add(files: list[str] | None, name: str) -> Any:
        if not files:
            return gr.skip()
        made = studio.datasets.add([Path(file) for file in files], name or "pictures")
        return gr.Dropdown(list(studio.datasets.names()), value=made), None

    def edited(rows: list[list[str]], dataset: str) -> None:
        known = {picture.name: picture.caption for picture in studio.datasets.look(dataset, resolution=64)}
        for name, _, _, caption in rows:
            if known.get(name, caption) != caption:
                studio.datasets.caption(dataset, name, caption)

    def replace(rows: list[list[str]], dataset: str, find: str, put: str) -> tuple[list, list]:
        if not find:
            raise RequestError("Find in captions: say what is to be replaced.", "find")
        changed = [[*row[:3], row[3].replace(find, put)] for row in rows]
        edited(changed, dataset)
        return changed, rows

    def restore(before: list[list[str]], rows: list, dataset: str) -> tuple[list, list]:
        if not before:
            return rows, []
        edited(before, dataset)
        return before, []

    inputs = [data["dataset"], page.model, *choices]
    data["dataset"].change(look, inputs, shown, **QUEUED)
    data["upload"].upload(guarded(add), [data["upload"], knobs["name"]], [data["dataset"], data["upload"]], **QUEUED)
    gr.on([each.change for each in choices], forecast, [page.model, data["used"], *choices], knobs["forecast"],
          trigger_mode="always_last", **QUIET)
    data["table"].input(guarded(edited), [data["table"], data["dataset"]], None, **QUEUED)
    data["swap"].click(guarded(replace), [data["table"], data["dataset"], data["find"], data["put"]],
                       [data["table"], data["before"]], **QUEUED)
    data["undo"].click(guarded(restore), [data["before"], data["table"], data["dataset"]],
                       [data["table"], data["before"]], **QUEUED)
    page.returning.append((lambda *values: dict(zip(shown, look(*values), strict=True)), inputs, shown))


def _found(pictures: tuple[Picture, ...]) -> str:
    counts = {verdict: sum(picture.verdict == verdict for picture in pictures) for verdict in ("ok", "mended",
                                                                                             "left out")}
    parts = [f"{counts['ok'] + counts['mended']} pictures"]
    parts += [f"{count} {verdict}" for verdict, count in counts.items() if count and verdict != "ok"]
    blank = sum(picture.used and not picture.caption for picture in pictures)
    return ", ".join([*parts, f"{blank} without a caption"] if blank else parts) + "."


def _thumbs(pictures: tuple[Picture, ...]) -> list[tuple[str, str]]:
    cache = get_upload_folder()
    return [(save_file_to_cache(picture.path, cache), picture.caption[:80]) for picture in pictures
            if picture.used][:THUMBNAILS]


def _forecast(card: Any, used: int, goal: str, length: str, *typed: str) -> str:
    """The three knobs in numbers, before anything runs."""
    if not used:
        return ""
    try:
        given = {name: _number(name, text) for name, text in zip(("steps", "rank", "batch_size"), typed, strict=True)}
        config = presets.resolve(
            TrainLora(model="m", data="d", output="o", name="n", goal=goal, length=length,
                      **{name: value for name, value in given.items() if value is not None}),
            pictures=used, native_size=card.native_size, unet_parameters=card.unet_parameters)
    except (ValueError, StudioError) as error:
        return str(error) if isinstance(error, StudioError) else "A number in Steps or Network is out of its range."
    views = config.steps * config.batch_size * config.accumulation / used
    return (f"{used} pictures, {config.steps:,} steps of {config.batch_size}: each is seen about {views:.0f} times. "
            f"Rank {config.rank}, alpha {config.alpha:g}, learning rate {config.learning_rate:g}.")


def _number(name: str, text: str) -> float | int | None:
    """What somebody typed into a field that may stay empty."""
    text = (text or "").strip()
    if not text or text == AUTO:
        return None
    try:
        value = float(text)
    except ValueError:
        raise RequestError(f"{TrainLora.model_fields[name].title}: {text[:40]!r} is no number.", name) from None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _wire_run(studio: Any, page: Page, data: dict, knobs: dict, watch: dict) -> None:
    names = [name for name in knobs if name in TrainLora.model_fields]
    empty = [name for name in names if TrainLora.model_fields[name].default is None]
    seen_parts = [watch[name] for name in ("status", "chart", "gallery", "weights", "told", "seen")]

    def start(dataset: str, model: str, trigger: str, used: int, *values: Any) -> tuple[Any, str]:
        given = dict(zip(names, values, strict=True))
        try:
            for name in empty:
                given[name] = _number(name, given[name])
            given = {name: value for name, value in given.items() if value is not None}
            given["sample_prompts"] = tuple(line.strip() for line in given["sample_prompts"].splitlines()
                                            if line.strip())
            if not given["sample_every"]:
                given["sample_every"] = _a_fifth(find_card(studio, model), used, given)
            job = studio.train(dataset, model=model, trigger=trigger, **given)
        except Exception as error:
            return gr.skip(), problem(error)
        place = f" {waiting_line(job.position)}." if job.position else ""
        return gr.Dropdown(_runs(studio), value=given["name"]), f"The run {given['name']} begins.{place}"

    def asked(word: str, done: str) -> Callable:
        def ask(run: str) -> str:
            try:
                studio.runs.ask(run, word)
            except Exception as error:
                return problem(error)
            return done
        return ask

    def resume(run: str) -> str:
        try:
            studio.resume_run(run)
        except Exception as error:
            return problem(error)
        return f"The run {run} goes on where it was."

    def show(run: str, seen: list) -> tuple:
        if not run:
            return (gr.skip(),) * len(seen_parts)
        try:
            card = studio.runs.card(run)
        except StudioError as error:
            return (str(error), *(gr.skip(),) * (len(seen_parts) - 1))
        log = follow.history(card.folder)
        sign = [run, *curves.signature(card.state, log)]
        if sign == seen:
            return (gr.skip(),) * len(seen_parts)
        cache = get_upload_folder()
        pictures = [(save_file_to_cache(path, cache), caption) for path, caption in curves.samples(log, card.folder)]
        found = curves.weights(log, run)
        return (curves.status_line(card.state, log), curves.loss_frame(log), pictures[:THUMBNAILS],
                gr.Dropdown(found, value=found[0] if found else None), curves.notices(log), sign)

    def use(name: str | None, trigger: str, prompt: str) -> tuple[Any, str]:
        if not name:
            raise RequestError("Weights: there are none yet.", "weights")
        tag = f"<lora:{name}:1>"
        said = trigger.strip() in prompt
        text = prompt.strip() if said else ", ".join(filter(None, (trigger.strip(), prompt.strip())))
        return gr.Tabs(selected="txt2img"), text if tag in text else f"{text} {tag}".strip()

    knobs["start"].click(start, [data["dataset"], page.model, data["trigger"], data["used"],
                                 *(knobs[name] for name in names)],
                         [watch["run"], knobs["message"]], trigger_mode="once", **QUEUED)
    knobs["pause"].click(asked("pause", "Pausing: it saves, and gives the device back. Resume goes on."),
                         watch["run"], knobs["message"], **QUIET)
    knobs["stop"].click(asked("stop", "Stopping after this step; everything is saved."), watch["run"],
                        knobs["message"], **QUIET)
    watch["sample"].click(asked("sample", "Samples come after this step."), watch["run"], knobs["message"], **QUIET)
    watch["resume"].click(resume, watch["run"], knobs["message"], **QUIET)
    watch["run"].change(show, [watch["run"], watch["seen"]], seen_parts, **QUIET)
    gr.Timer(WATCH_EVERY_S).tick(show, [watch["run"], watch["seen"]], seen_parts, **QUIET)
    prompt = page.forms["txt2img"].fields["prompt"]
    watch["use"].click(guarded(use), [watch["weights"], data["trigger"], prompt], [page.tabs, prompt],
                       **apart(QUEUED, knobs["message"]))

    def again(run: str | None) -> dict:
        names = _runs(studio)
        chosen = run if run in names else names[0] if names else None
        values = show(chosen, []) if chosen else (gr.skip(),) * len(seen_parts)
        return {watch["run"]: gr.Dropdown(names, value=chosen), **dict(zip(seen_parts, values, strict=True))}

    page.returning.append((again, [watch["run"]], [watch["run"], *seen_parts]))


def _runs(studio: Any) -> list[str]:
    return [card.name for card in studio.runs.cards()]


def _a_fifth(card: Any, used: int, given: dict[str, Any]) -> int:
    """Samples five times in a run, unless somebody says otherwise."""
    given = {name: value for name, value in given.items() if name in ("goal", "length", "steps", "batch_size",
                                                                      "accumulation")}
    config = presets.resolve(TrainLora(model="m", data="d", output="o", name="n", **given), pictures=max(1, used),
                             native_size=card.native_size, unet_parameters=card.unet_parameters)
    return max(1, config.steps // 5)


TAB = Tab(name="train", label="Train", order=40, build=build)
