"""What came of a run: weights to use in a prompt at once, or to merge into a model of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from pipelines import events
from pipelines.adapters.merge_request import MergeLora
from pipelines.errors import RequestError
from pipelines.prompts.comments import behind, without_comments
from pipelines.studio.studio import Studio
from pipelines.studio.works import Merge

from ...forms.fields import Control, make_control
from ...tab import Page
from ...visitors import caller
from ...wiring import QUEUED, apart, guarded, problem


@dataclass(frozen=True)
class Weights:
    """The controls of the weights. name, strength: of the model that merging makes."""

    body: gr.Column
    weights: gr.Dropdown
    use: gr.Button
    name: Control
    strength: Control
    merge: gr.Button
    merged: gr.Textbox


def build() -> Weights:
    """Build the list of weights inside the current column, hidden until there are some."""
    with gr.Column(visible=False, min_width=0) as body:
        return _build(body)


def _build(body: gr.Column) -> Weights:
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
    return Weights(body, weights, use, name, strength, merge, merged)


@dataclass(frozen=True)
class WeightsUse:
    """What can be done with the weights of a run."""

    studio: Studio
    page: Page
    weights: Weights

    def wire(self, run: gr.Dropdown, trigger: gr.Textbox, line: gr.Textbox) -> None:
        """Bind the buttons to their events. line: where progress is shown (see `apart`)."""
        weights, page = self.weights, self.page
        prompt = page.forms["txt2img"].fields["prompt"]
        weights.use.click(guarded(self.use), [run, weights.weights, trigger, prompt],
                          [page.tabs, page.model, prompt], **apart(QUEUED, line))
        weights.merge.click(self.merge, [weights.weights, weights.name, weights.strength, page.model],
                            [page.model, weights.merged], trigger_mode="once", **QUEUED)

    def use(self, run: str, name: str | None, trigger: str, prompt: str) -> tuple[gr.Tabs, gr.Dropdown | dict, str]:
        """Put a LoRA into the prompt of Text to image, or choose a model that was trained whole."""
        if not name:
            raise RequestError("Weights: there are none yet.", "weights")
        tab = gr.Tabs(selected="txt2img")
        if self.studio.runs.card(run).config.method == "full":
            chosen = self.studio.collection.card(name).name
            return tab, gr.Dropdown(_models(self.studio), value=chosen), prompt
        tag = f"<lora:{name}:1>"
        read = without_comments(prompt)
        has_trigger = trigger.strip() in read
        text = prompt.strip() if has_trigger else ", ".join(filter(None, (trigger.strip(), prompt.strip())))
        return tab, gr.skip(), text if tag in read else behind(text, tag, " ")

    def merge(self, lora: str | None, name: str, strength: float,
              model: str) -> Iterator[tuple[gr.Dropdown | dict, str]]:
        """Write a checkpoint that has the weights in it, and offer it."""
        try:
            if not lora:
                raise RequestError("Weights: there are none yet.", "weights")
            values = {"lora": lora, "name": name.strip() or lora, "strength": strength}
            job = self.studio.submit(Merge(model, values), caller())
            yield gr.skip(), "Merging ..."
            told = ""
            for event in job.follow():
                if isinstance(event, events.Failed):
                    raise event.error
                told = event.text if isinstance(event, events.Notice) else told
        except Exception as error:
            yield gr.skip(), problem(error)
        else:
            yield gr.Dropdown(_models(self.studio)), told


def _models(studio: Studio) -> list[tuple[str, str]]:
    return [(card.title, card.name) for card in studio.collection.cards()]
