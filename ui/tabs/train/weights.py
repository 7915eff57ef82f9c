"""What came of a run: weights to use in a prompt at once, or to merge into a model of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from pipelines import events
from pipelines.adapters.merge_request import MergeLora
from pipelines.errors import RequestError
from pipelines.prompts.comments import behind, without_comments
from pipelines.studio.works import Merge

from ...forms.fields import make_control
from ...tab import Page
from ...visitors import caller
from ...wiring import QUEUED, apart, guarded, problem


def build() -> dict[str, gr.components.Component]:
    with gr.Column(visible=False, min_width=0) as body:  # until there are some
        parts = _build()
    return {**parts, "body": body}


def _build() -> dict[str, gr.components.Component]:
    with gr.Row(elem_classes="level"):
        weights = gr.Dropdown([], label="Weights", info="Every saved checkpoint can be used in a prompt at once.",
                              filterable=False, elem_id="train-weights", scale=3)
        use = gr.Button("Use in Text to image", size="md", elem_id="train-use", scale=2, min_width=100)
    with gr.Accordion("Make a model of its own", open=False, elem_classes="more", elem_id="train-merge-more"):
        with gr.Row():
            name = make_control(MergeLora.model_fields["name"], "name", "train-merge-name", "", min_width=120)
            strength = make_control(MergeLora.model_fields["strength"], "strength", "train-merge-strength", 1.0,
                                    min_width=120)
        merge = gr.Button("Merge into the chosen model", size="sm", elem_id="train-merge")
        merged = gr.Textbox("", label="What came of it", show_label=False, container=False, interactive=False,
                            max_lines=2, elem_classes="line", elem_id="train-merged")
    return {"weights": weights, "use": use, "name": name, "strength": strength, "merge": merge, "merged": merged}


def wire(studio: Any, page: Page, data: dict, run: dict, made: dict) -> None:
    prompt = page.forms["txt2img"].fields["prompt"]

    def use(run: str, name: str | None, trigger: str, prompt: str) -> tuple[Any, Any, str]:
        if not name:
            raise RequestError("Weights: there are none yet.", "weights")
        if studio.runs.card(run).config.method == "full":
            chosen = studio.collection.card(name).name
            return gr.Tabs(selected="txt2img"), gr.Dropdown(_models(studio), value=chosen), prompt
        tag = f"<lora:{name}:1>"
        read = without_comments(prompt)
        said = trigger.strip() in read
        text = prompt.strip() if said else ", ".join(filter(None, (trigger.strip(), prompt.strip())))
        return gr.Tabs(selected="txt2img"), gr.skip(), text if tag in read else behind(text, tag, " ")

    def merge(lora: str | None, name: str, strength: float, model: str) -> Iterator[tuple[Any, str]]:
        try:
            if not lora:
                raise RequestError("Weights: there are none yet.", "weights")
            values = {"lora": lora, "name": name.strip() or lora, "strength": strength}
            job = studio.submit(Merge(model, values), caller())
            yield gr.skip(), "Merging ..."
            told = ""
            for event in job.follow():
                if isinstance(event, events.Failed):
                    raise event.error
                told = event.text if isinstance(event, events.Notice) else told
        except Exception as error:
            yield gr.skip(), problem(error)
        else:
            yield gr.Dropdown(_models(studio)), told

    made["use"].click(guarded(use), [run["run"], made["weights"], data["trigger"], prompt],
                      [page.tabs, page.model, prompt], **apart(QUEUED, run["status"]))
    made["merge"].click(merge, [made["weights"], made["name"], made["strength"], page.model],
                        [page.model, made["merged"]], trigger_mode="once", **QUEUED)


def _models(studio: Any) -> list[tuple[str, str]]:
    return [(card.title, card.name) for card in studio.collection.cards()]
