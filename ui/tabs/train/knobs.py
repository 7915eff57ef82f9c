"""How a run is to learn: three knobs in front, everything else behind them, and what they mean in numbers."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from pipelines.errors import RequestError, StudioError, quoted
from pipelines.library.read.card import ModelCard
from pipelines.prompts.comments import without_comments
from pipelines.studio.studio import Studio
from pipelines.training import presets
from pipelines.training.dataset.survey import held_out
from pipelines.training.request import TrainLora

from ...forms.controls import find_card
from ...forms.fields import Control, make_control
from ...tab import Page
from ...wiring import QUIET

FRONT: tuple[tuple[str, ...], ...] = (("name",), ("goal", "length"))
# Fields behind the three, by what a person thinks of. The device is the app's.
GROUPS: dict[str, tuple[str, ...]] = {
    "Captions": ("prefix", "suffix", "shuffle", "keep_first", "caption_dropout", "clip_skip", "caption_encoding"),
    "Network": ("method", "targets", "text_encoder", "rank", "alpha", "dropout", "rslora", "dora"),
    "Steps": ("steps", "batch_size", "accumulation", "learning_rate", "text_encoder_learning_rate", "scheduler",
              "warmup", "restarts", "optimizer", "weight_decay", "max_grad_norm", "ema", "seed"),
    "Pictures": ("resolution", "crop", "buckets", "flip", "repeats", "masked", "prior_data", "prior_weight"),
    "Loss": ("min_snr_gamma", "debiased", "noise_offset"),
    "Samples, saves and measuring": ("sample_every", "sample_steps", "sample_seed", "save_every", "save_minutes",
                                     "keep_last", "save_dtype", "validation", "validate_every", "early_stop",
                                     "keep_best", "precision", "gradient_checkpointing", "cache", "tensorboard",
                                     "wandb"),
}
AUTO = "auto"
FIRST = {"name": "my-lora", "length": "fast"}  # of the form; a file's defaults are the config's own
FORECAST_OF = ("goal", "length", "steps", "rank", "batch_size", "method", "optimizer", "accumulation", "validation",
               "seed")


@dataclass(frozen=True)
class Knobs:
    """The controls of the settings. fields: by the config's names, in the form's order."""

    fields: dict[str, Control]
    meaning: gr.Textbox
    start: gr.Button
    probe: gr.Button
    message: gr.Textbox


def build(studio: Studio, page: Page) -> Knobs:
    """Build the form inside the current column."""
    gr.Markdown("### 2. What, and how long", elem_classes="step")
    fields: dict[str, Control] = {}

    def add(name: str) -> None:
        fields[name] = page.remembered[f"train.{name}"] = _control(studio, name)

    for names in FRONT:
        with gr.Row():
            for name in names:
                add(name)
    meaning = gr.Textbox("", label="What this means", show_label=False, container=False, interactive=False,
                         max_lines=6, elem_classes="line", elem_id="train-forecast")
    with gr.Row(elem_classes="actions"):
        start = gr.Button("Start training", variant="primary", size="lg", scale=6, min_width=120,
                          elem_classes="generate", elem_id="train-start")
        probe = gr.Button("Forecast", size="lg", scale=3, min_width=64, elem_id="train-probe")
    message = gr.Textbox("", label="Message", show_label=False, container=False, interactive=False, max_lines=3,
                         elem_classes="line strong", elem_id="train-message")
    for title, names in GROUPS.items():
        with gr.Accordion(title, open=False, elem_classes="more", elem_id=f"train-more-{title.split(',')[0].lower()}"):
            for left in range(0, len(names), 2):
                with gr.Row():
                    for name in names[left:left + 2]:
                        add(name)
            if title.startswith("Samples"):
                prompts = gr.Textbox("", label="Sample prompts", lines=2, elem_id="train-sample-prompts",
                                     info="One a line, with --n, --w, --h, --s, --d and --l behind it as kohya's "
                                          "trainer reads them. Without any, captions of the pictures are drawn.")
                fields["sample_prompts"] = page.remembered["train.sample_prompts"] = prompts
    return Knobs(fields, meaning, start, probe, message)


def wire(studio: Studio, page: Page, knobs: Knobs, verdict: gr.Textbox, used: gr.State) -> None:
    """Say the knobs in numbers whenever one of them, the model or the pictures change.

    verdict, used: what was found of the pictures, and the hashes of those that are trained on.
    """
    chosen = [knobs.fields[name] for name in FORECAST_OF]

    def say(model: str, used: Sequence[str], *values: Any) -> str:
        return meaning(find_card(studio, model), used, dict(zip(FORECAST_OF, values, strict=True)))

    gr.on([each.change for each in (*chosen, verdict, page.model)], say,
          [page.model, used, *chosen], knobs.meaning, trigger_mode="always_last", **QUIET)


def _control(studio: Studio, name: str) -> Control:
    info, elem_id = TrainLora.model_fields[name], f"train-{name.replace('_', '-')}"
    if name == "prior_data":
        return gr.Dropdown([("none", ""), *studio.datasets.names()], value="", label=info.title, filterable=False,
                           info="A dataset of ordinary pictures that keep the model from forgetting.",
                           elem_id=elem_id, min_width=100)
    if info.default is None and not info.is_required():  # a number that is left to the preset unless one is typed
        return gr.Textbox("", label=info.title, info=f"{info.description} Empty: as the preset says.",
                          placeholder=AUTO, elem_id=elem_id, min_width=100, max_lines=1)
    visible = name != "wandb" or importlib.util.find_spec("wandb") is not None
    return make_control(info, name, elem_id, FIRST.get(name, info.default), min_width=100, visible=visible)


def given(fields: Sequence[str], values: Sequence[object]) -> dict[str, object]:
    """What somebody chose, as values of a config. Raises RequestError for what is no number."""
    chosen = dict(zip(fields, values, strict=True))
    for name in fields:
        if TrainLora.model_fields[name].default is None:
            chosen[name] = number(name, chosen[name])
    if "sample_prompts" in chosen:
        lines = (line.strip() for line in without_comments(str(chosen["sample_prompts"])).splitlines())
        chosen["sample_prompts"] = tuple(line for line in lines if line)
    return {name: value for name, value in chosen.items() if value is not None}


def filled(studio: Studio, fields: Mapping[str, Control], config: TrainLora) -> dict[Control, object]:
    """The form as a run was asked for."""
    told: dict[Control, object] = {}
    for name, control in fields.items():
        value = getattr(config, name)
        if name == "prior_data":
            value = studio.datasets.name_of(Path(value)) or "" if value else ""
        elif name == "sample_prompts":
            value = "\n".join(value)
        elif TrainLora.model_fields[name].default is None:
            value = "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
        told[control] = value
    return told


def number(name: str, typed: object) -> float | int | None:
    """What somebody typed into a field that may stay empty."""
    text = str(typed or "").strip()
    if not text or text == AUTO:
        return None
    try:
        value = float(text)
    except ValueError:
        raise RequestError(f"{TrainLora.model_fields[name].title}: {quoted(text)} is no number.", name) from None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def concrete(card: ModelCard, used: Sequence[str], chosen: Mapping[str, object]) -> TrainLora:
    """The config that choices of FORECAST_OF come to. used: hashes of the pictures. Raises ValueError or RequestError
    for what is out of range."""
    config = TrainLora.model_validate({"model": "m", "data": "d", "output": "o", "name": "n", **chosen})
    trained = len(used) - len(held_out(used, config.validation, config.seed))
    return presets.resolve(config, pictures=max(1, trained), native_size=card.native_size,
                           unet_parameters=card.unet_parameters)


def meaning(card: ModelCard, used: Sequence[str], values: Mapping[str, object]) -> str:
    """The three knobs in numbers, before anything runs."""
    if not used:
        return ""
    try:
        config = concrete(card, used, given(list(values), list(values.values())))
    except (ValueError, StudioError) as error:
        return str(error) if isinstance(error, StudioError) else "A number in Steps or Network is out of its range."
    assert config.steps and config.batch_size and config.alpha and config.learning_rate  # resolve leaves none open
    held = len(held_out(used, config.validation, config.seed))
    seen = config.steps * config.batch_size * config.accumulation / (len(used) - held)
    size = "all weights of the U-Net" if config.method == "full" else f"rank {config.rank}, alpha {config.alpha:g}"
    aside = f" ({held} kept aside to measure on)" if held else ""
    at_once = config.batch_size * config.accumulation
    return (f"{len(used)} pictures{aside}, {config.steps:,} steps of {at_once}: each is seen about {seen:.0f} times. "
            f"Learns {size}, at a learning rate of {config.learning_rate:g}. Forecast tries a few steps and says how "
            "long it takes.")
