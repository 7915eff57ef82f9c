"""What is known of the chosen file, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from pipelines.errors import RequestError
from pipelines.families import FAMILIES
from pipelines.library.entry import LibraryEntry
from pipelines.library.read.card import PICKLES
from pipelines.library.read.prediction import can_be_told
from pipelines.studio.studio import Studio

from ...forms.controls import find_card, with_entry
from ...language import said
from ...tab import Page
from ...wiring import QUEUED, QUIET, guarded, problem
from .shelf import Shelf
from .words import Pictures, facts, prediction_of

HINT = "Choose a file from the list to see what it is and what it can do."
DONE = {"lora": "{} is in the prompt of Text to image.", "embedding": "{} is in the prompt of Text to image.",
        "vae": "{} is the VAE of every tab. Choose The model's own under More to go back."}
OF_ONE_FAMILY = ("lora", "embedding")
USE = {"lora": "Add to the prompt", "embedding": "Add to the prompt", "vae": "Use this VAE"}


@dataclass
class Details:
    """The controls of one file. chosen: its id."""

    hint: gr.Markdown
    body: gr.Column
    picture: gr.Image
    title: gr.Textbox
    fault: gr.Textbox
    facts: gr.Textbox
    triggers: gr.Textbox
    notes: gr.Textbox
    choose: gr.Button
    use: gr.Button
    negative: gr.Button
    convert: gr.Button
    message: gr.Textbox
    predicts: gr.Dropdown
    chosen: gr.State

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        return [self.hint, self.body, self.picture, self.title, self.fault, self.facts, self.triggers, self.notes,
                self.choose, self.use, self.negative, self.convert, self.message, self.predicts, self.chosen]


def build() -> Details:
    """Build the details inside the current column."""
    hint = gr.Markdown(HINT, elem_classes="hint")
    with gr.Column(visible=False, min_width=0, elem_id="models-details", elem_classes="details") as body:
        with gr.Row(elem_classes="details-head"):
            picture = gr.Image(label="Preview", show_label=False, interactive=False, format="webp", type="filepath",
                               buttons=[], height=160, width=160, min_width=120, scale=0, elem_id="models-picture",
                               alt_text="The preview picture that lies beside the file")
            with gr.Column(min_width=0):
                title = gr.Textbox("", label="Name", show_label=False, container=False, interactive=False, max_lines=3,
                                   elem_classes="line strong", elem_id="models-title")
                known = gr.Textbox("", label="About the file", show_label=False, container=False, interactive=False,
                                   lines=5, max_lines=14, elem_classes="line", elem_id="models-facts")
        fault = gr.Textbox("", label="Why it cannot be used", lines=2, max_lines=8, interactive=False, visible=False,
                           elem_id="models-fault")
        with gr.Row(elem_classes="actions"):
            choose = gr.Button("Use this model", variant="primary", size="lg", min_width=100, elem_id="models-choose")
            use = gr.Button("Add to the prompt", variant="primary", size="lg", min_width=100, elem_id="models-use")
            negative = gr.Button("To the negative one", size="lg", min_width=100, elem_id="models-negative")
            convert = gr.Button("Convert it", size="lg", min_width=100, elem_id="models-convert")
        message = gr.Textbox("", label="Message", show_label=False, container=False, interactive=False, max_lines=3,
                             elem_classes="line strong", elem_id="models-message")
        predicts = gr.Dropdown([("As the file says", ""), ("Noise", "epsilon"), ("v", "v_prediction")], value="",
                               label="Predicts", visible=False, filterable=False, elem_id="models-predicts",
                               info="What its U-Net was taught to give. When pictures are nothing but coloured noise, "
                                    "the file says the wrong thing: try the other one.")
        triggers = gr.Textbox("", label="Trigger words", max_lines=4, interactive=False, visible=False,
                              buttons=["copy"], elem_id="models-triggers")
        notes = gr.Textbox("", label="Notes", max_lines=12, interactive=False, visible=False, elem_id="models-notes")
    return Details(hint, body, picture, title, fault, known, triggers, notes, choose, use, negative, convert, message,
                   predicts, gr.State(""))


def wire(studio: Studio, page: Page, shown: Details, shelf: Shelf) -> None:
    """Show what is clicked on, and let its buttons do what they say."""
    library, pictures = studio.collection.library, Pictures()
    forms = page.forms
    prompt, negative = (forms["txt2img"].fields[name] for name in ("prompt", "negative_prompt"))
    vaes = [form.fields["vae"] for form in forms.values() if "vae" in form.fields]

    def found(id: str) -> LibraryEntry:
        entry = library.by_id(id)
        if entry is None:
            raise RequestError("This file is no longer here. Look again.", "id")
        return entry

    def show(ids: list[str], event: gr.SelectData) -> dict:
        index = event.index[0] if isinstance(event.index, list | tuple) else event.index
        entry = library.by_id(ids[index]) if 0 <= index < len(ids) else None
        if entry is None:
            return {shown.message: "This file is no longer here. Look again."}
        card = studio.collection.card_of(entry.id)
        told = card is not None and can_be_told(card)
        usable, pickle = not entry.fault, entry.path.suffix.lower() in PICKLES
        offer = "It can be converted: a separate program then reads nothing but its weights and writes them anew, " \
                "beside the old file." if pickle and not studio.settings.is_public else ""
        return {shown.hint: gr.Markdown(visible=False), shown.body: gr.Column(visible=True), shown.chosen: entry.id,
                shown.picture: pictures.path(entry), shown.title: entry.title, shown.facts: facts(entry, card),
                shown.predicts: gr.Dropdown(value=prediction_of(card), visible=told and not studio.settings.is_public),
                shown.fault: gr.Textbox(f"{said(entry.fault)} {said(offer)}".strip(), visible=not usable),
                shown.triggers: gr.Textbox(", ".join(entry.trigger_words), visible=bool(entry.trigger_words)),
                shown.notes: gr.Textbox(entry.notes, visible=bool(entry.notes)), shown.message: "",
                shown.choose: gr.Button(visible=usable and entry.kind == "checkpoint"),
                shown.use: gr.Button(said(USE.get(entry.kind, "")), visible=usable and entry.kind in USE),
                shown.negative: gr.Button(visible=usable and entry.kind == "embedding"),
                shown.convert: gr.Button(visible=bool(offer))}

    def misfit(entry: LibraryEntry, model: str) -> str:
        """A warning when something is for another family than that of the chosen model."""
        chosen = FAMILIES[find_card(studio, model).family]
        if entry.kind not in OF_ONE_FAMILY or entry.family in ("", chosen.name):
            return ""
        return f"It is for {entry.family_label}, and the chosen model is {chosen.label}."

    def use(id: str, text: str, against: str, model: str) -> dict:
        entry = found(id)
        update: dict = {shown.message: " ".join(filter(None, (
            said(DONE[entry.kind].format(entry.name)), said(misfit(entry, model)))))}
        if entry.kind == "vae":
            return {**update, **{box: entry.name for box in vaes}}
        against = against or ""
        if entry.negative_words and entry.negative_words not in against:
            update[negative] = ", ".join(filter(None, (against.strip(), entry.negative_words)))
        return {**update, prompt: with_entry(text or "", entry)}

    def use_against(id: str, against: str) -> dict:
        entry = found(id)
        return {negative: with_entry(against or "", entry),
                shown.message: f"{entry.name} is in the negative prompt of Text to image."}

    def predict(id: str, kind: str) -> tuple[str, str]:
        studio.collection.choose_prediction(id, kind or "")
        return facts(found(id), studio.collection.card_of(id)), "The next pictures of this model follow it."

    def convert(id: str) -> Iterator[str]:
        yield "Converting ..."
        try:
            name = studio.collection.convert(id)
        except Exception as error:
            yield problem(error)
            return
        yield f"{name} is written. It stands in the list in a moment."

    for chosen in (shelf.tiles.select, shelf.table.select):
        chosen(show, shelf.ids, shown.outputs, **QUIET).then(None, js="() => atelier.reach('models-details')", **QUIET)
    shown.use.click(guarded(use), [shown.chosen, prompt, negative, page.model],
                    [shown.message, prompt, negative, *vaes], **QUEUED)
    shown.negative.click(guarded(use_against), [shown.chosen, negative], [negative, shown.message], **QUEUED)
    shown.predicts.input(guarded(predict), [shown.chosen, shown.predicts], [shown.facts, shown.message], **QUEUED)
    shown.convert.click(convert, shown.chosen, shown.message, trigger_mode="once", **QUEUED).then(
        lambda: gr.Timer(active=True), None, shelf.timer, **QUIET)
    page.choosers.append((shown.choose, shown.chosen, lambda id: found(id).name))
