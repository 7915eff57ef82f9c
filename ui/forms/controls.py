"""The groups of controls that the tabs share: prompts, actions, size, seed, sampling and the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import gcd

import gradio as gr

from pipelines.library.entry import LibraryEntry
from pipelines.library.read.card import ModelCard
from pipelines.prompts.comments import behind, without_comments
from pipelines.requests import HIRES_UPSCALERS, extra_of
from pipelines.studio.studio import Studio

from ..language import said
from ..results import progress
from ..results.panel import Lines
from ..tab import Form
from ..wiring import QUIET
from . import prompt_box
from .fields import Control


def ask(form: Form, studio: Studio) -> Lines:
    """The upper left of a tab: what to draw, the buttons that start and stop it, and the lines where a run reports.

    Returns these lines, as `results.panel` takes them.
    """
    with gr.Column(elem_classes="ask", min_width=0):
        prompts(form, studio)
        actions(form)
        return progress.status_lines(form.task)


def prompts(form: Form, studio: Studio) -> None:
    """Prompt and negative prompt, each with what its text comes to."""
    for name, lines in (("prompt", 3), ("negative_prompt", 1)):
        with gr.Column(elem_classes="prompt", min_width=0):
            box = form.add(name, lines=lines, max_lines=12, placeholder=PLACEHOLDERS[name])
            assert isinstance(box, gr.Textbox)  # a field of free text is one
            prompt_box.watch(form, studio, name, box)


def actions(form: Form) -> None:
    """Generate, and Stop and Skip beside it."""
    with gr.Row(elem_classes="actions"):
        form.generate = gr.Button("Generate", variant="primary", size="lg", scale=6, min_width=120,
                                  elem_classes="generate", elem_id=f"{form.task}-generate")
        form.stop = gr.Button("Stop", size="lg", scale=2, min_width=64, elem_classes="while-running",
                              elem_id=f"{form.task}-stop")
        form.skip = gr.Button("Skip", size="lg", scale=2, min_width=64, elem_classes="while-running",
                              elem_id=f"{form.task}-skip")


def size(form: Form, studio: Studio) -> None:
    """Width and height with presets of the model's own area, a swap button and the aspect in words."""
    with gr.Column(elem_classes="size", min_width=0):
        with gr.Row():
            width, height = form.add("width", min_width=120), form.add("height", min_width=120)
        with gr.Row(elem_classes="presets"):
            for name, ratio in PRESETS.items():
                button = gr.Button(name, size="sm", min_width=60, elem_id=f"{form.task}-{name.lower()}")
                button.click(_preset(studio, ratio), form.page.model, [width, height], **QUIET)
            swap = gr.Button("Swap", size="sm", min_width=60, elem_id=f"{form.task}-swap")
            aspect = gr.Textbox(aspect_of(form.defaults["width"], form.defaults["height"]), label="Aspect",
                                show_label=False, container=False, interactive=False, max_lines=1, min_width=90,
                                elem_classes="line right aspect", elem_id=f"{form.task}-aspect")
        form.need = gr.Textbox("", label="Memory", show_label=False, container=False, interactive=False, max_lines=2,
                               elem_classes="line need", elem_id=f"{form.task}-need")
    swap.click(None, [width, height], [width, height], js="(width, height) => [height, width]", **QUIET)
    gr.on([width.change, height.change], None, [width, height], aspect, js="(w, h) => atelier.aspect(w, h)", **QUIET)


def aspect_of(width: int, height: int) -> str:
    """Say a size in words: "3:2, 0.4 MP" (the page's script has the same rule)."""
    divisor = gcd(width, height) or 1
    a, b = width // divisor, height // divisor
    ratio = f"{a}:{b}" if max(a, b) <= 32 else f"{width / height:.2f}:1"
    return f"{ratio} · {width * height / 1e6:.2f} MP"


def preset_size(native: int, ratio: float) -> tuple[int, int]:
    """Width and height with about native x native pixels. ratio: width / height."""
    step = max(8, native // 16)
    return round(native * ratio**0.5 / step) * step, round(native / ratio**0.5 / step) * step


def find_card(studio: Studio, name: str | None) -> ModelCard:
    """The card of a model, or the default model's when it is gone."""
    return next((card for card in studio.collection.cards() if card.name == name), studio.collection.default_card())


def _preset(studio: Studio, ratio: float) -> Callable:
    def choose(model: str) -> tuple[int, int]:
        return preset_size(find_card(studio, model).native_size, ratio)

    return choose


def seed(form: Form) -> Control:
    """The seed, with buttons to draw a new one or take the last one, and a lock that keeps it."""
    with gr.Column(elem_classes="seed", min_width=120, scale=3):
        number = form.add("seed")
        with gr.Row(elem_classes="seed-tools"):
            random = gr.Button("Random", size="sm", min_width=0, elem_id=f"{form.task}-random-seed")
            form.reuse = gr.Button("Reuse", size="sm", min_width=0, elem_id=f"{form.task}-reuse-seed")
            form.lock = form.keep("lock", gr.Checkbox(False, label="Lock", container=False, min_width=0,
                                                      elem_id=f"{form.task}-lock-seed"))
    random.click(None, None, [number, form.lock], js="() => ['-1', false]", **QUIET)
    return number


def essentials(form: Form, studio: Studio) -> None:
    """The controls that stay in sight: size, steps, guidance, seed and how many."""
    size(form, studio)
    with gr.Row():
        form.add("steps", min_width=120)
        form.add("guidance_scale", min_width=120)
    with gr.Row():
        seed(form)
        form.add("batch_count", min_width=100, scale=2)


@contextmanager
def more(form: Form) -> Iterator[gr.Accordion]:
    """The controls that most runs do not need. Whether it is open is remembered by the page's script."""
    with gr.Accordion("More", open=False, elem_classes="more", elem_id=f"{form.task}-more") as accordion:
        yield accordion


def loras(form: Form, studio: Studio) -> None:
    """A picker that writes the tag of a LoRA, and its trigger words, into the prompt, and one for the autoencoder."""
    _vae(form, studio)
    picker = gr.Dropdown(_lora_choices(studio), value="", label="Add a LoRA", filterable=True,
                         elem_id=f"{form.task}-lora",
                         info="Writes <lora:name:1> into the prompt; the number is its strength. Files in the data "
                              "folder's loras and below the model folders are listed.")

    def add(name: str, prompt: str) -> tuple[gr.Dropdown, str]:
        entry = next((entry for entry in studio.collection.loras() if entry.name == name), None)
        return gr.Dropdown(value=""), prompt if entry is None else with_entry(prompt, entry)

    picker.input(add, [picker, form.fields["prompt"]], [picker, form.fields["prompt"]], **QUIET)
    picker.focus(lambda: gr.Dropdown(choices=_lora_choices(studio)), None, picker, **QUIET)


def with_entry(prompt: str, entry: LibraryEntry) -> str:
    """A prompt with what makes a LoRA or an embedding work: its trigger words, and its tag or its bare name."""
    names = [entry.name] if entry.kind == "embedding" else []
    read = without_comments(prompt)
    text = behind(prompt, ", ".join(words for words in (*entry.trigger_words, *names) if words and words not in read),
                  ", ")
    if entry.kind != "lora" or f"<lora:{entry.name}:" in read:
        return text
    weight = 1 if entry.preferred_weight is None else entry.preferred_weight
    return behind(text, f"<lora:{entry.name}:{weight:g}>", " ")


def _lora_choices(studio: Studio) -> list[tuple[str, str]]:
    def shown(entry: LibraryEntry) -> str:
        rank = said(f"rank {max(entry.facts['ranks'], default='?')}")
        return f"{entry.name} ({entry.family_label or said('any')}, {rank})"

    return [("-", ""), *((shown(entry), entry.name) for entry in studio.collection.loras() if not entry.fault)]


def _vae(form: Form, studio: Studio) -> None:
    info = form.request.model_fields["vae"]
    picker = gr.Dropdown(_vae_choices(studio), value="", label=info.title, info=info.description, filterable=True,
                         allow_custom_value=True, elem_id=f"{form.task}-vae")  # the library may know more by then
    form.fields["vae"] = form.keep("vae", picker)
    picker.focus(lambda: gr.Dropdown(choices=_vae_choices(studio)), None, picker, **QUIET)


def _vae_choices(studio: Studio) -> list[tuple[str, str]]:
    return [(said("The model's own"), ""), *((entry.name, entry.name) for entry in studio.collection.vaes())]


def sampling(form: Form) -> None:
    """Sampler, schedule, clip skip and batch size; one prompt a line."""
    with gr.Row():
        form.add("sampler", min_width=120)
        form.add("schedule", min_width=120)
    with gr.Row():
        form.add("batch_size", min_width=120)
        form.add("clip_skip", min_width=120)
    form.add("prompt_lines")


def second_pass(form: Form, studio: Studio) -> None:
    """Hires fix: the picture is drawn again at a larger size."""
    names = [name for name in form.request.model_fields if name.startswith("hires_")]
    with gr.Accordion("Larger, in a second pass (hires fix)", open=False, elem_classes="more",
                      elem_id=f"{form.task}-hires"):
        _pairs(form, names)
    upscaler = form.fields["hires_upscaler"]
    assert isinstance(upscaler, gr.Dropdown)  # a field with choices is one
    upscaler.choices += [(name, name) for name in studio.upscalers.names()[1:]]
    upscaler.focus(lambda: gr.Dropdown(choices=[*HIRES_UPSCALERS, *studio.upscalers.names()[1:]]), None, upscaler,
                   **QUIET)


def fine_tuning(form: Form) -> None:
    """Every parameter that has no place yet, so that a new field of the request is on the page at once."""
    names = [name for name, info in form.request.model_fields.items()
             if name not in form.fields and extra_of(info)["kind"] not in ELSEWHERE]
    if names:
        with gr.Accordion("Fine tuning", open=False, elem_classes="more", elem_id=f"{form.task}-fine"):
            _pairs(form, names)


def _pairs(form: Form, names: list[str]) -> None:
    with gr.Row(elem_classes="pairs"):
        for name in names:
            form.add(name, min_width=120)


PLACEHOLDERS = {"prompt": "What should the picture show?", "negative_prompt": "What should it keep away from?"}
ELSEWHERE = ("model", "picture", "mask", "resolved")  # kinds that the header, the source picture and resolving give
PRESETS = {"Square": 1.0, "Portrait": 3 / 4, "Landscape": 4 / 3}
