"""The example cards of an empty result area: a prompt that the model draws well, with the picture that it draws."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from pipelines.errors import RequestError
from pipelines.library.read.card import ModelCard
from pipelines.requests import make
from pipelines.studio.studio import Studio

from ..language import said
from ..tab import Form
from ..wiring import QUIET
from .controls import find_card

COUNT = 4
SIDE_PX = 144  # shown at half of it: sharp on fine screens
FOLDER = "examples"  # beside the model; python -m docs.examples fills it
Example = Mapping[str, Any]  # values of a request, by name


class CardLook(TypedDict):
    """How a button looks: keyword arguments of Gradio's."""

    value: str
    icon: str | None
    visible: bool


@dataclass(frozen=True)
class Cards:
    """What an empty result area shows: a sentence, and buttons of which as many can be seen as there are examples."""

    words: gr.Markdown
    buttons: list[gr.Button]


def name(example: Example) -> str:
    """File name of an example's picture. It tells prompt and seed, so the picture of another example is never shown."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{example['prompt'][:60]} {example.get('seed')}".lower())
    return f"{words.strip('-')}.webp"


def picture(folder: Path | None, example: Example) -> str | None:
    """Path of an example's picture where the page may read it; None when the model brings none."""
    if folder is None:
        return None
    try:
        with Image.open(folder / FOLDER / name(example), formats=("WEBP",)) as image:
            image.thumbnail((SIDE_PX, SIDE_PX))
            return save_pil_to_cache(image.convert("RGB"), get_upload_folder(), format="webp")
    except (OSError, SyntaxError, ValueError):
        return None


def cards(studio: Studio, form: Form) -> Cards:
    """Build the cards for the picked model, inside the current column."""
    looks = _looks(find_card(studio, form.page.model.value), form)
    words = gr.Markdown(_words(looks), elem_classes="hint")
    with gr.Row(elem_classes="cards"):
        return Cards(words, [gr.Button(**look, elem_classes="card", min_width=180, elem_id=f"{form.task}-example-{i}")
                             for i, look in enumerate(looks, start=1)])


def wire(studio: Studio, form: Form, cards: Cards) -> None:
    """Follow the model picker. A card fills the form, then presses Generate as a person would."""

    def follow(model: str) -> list:
        looks = _looks(find_card(studio, model), form)
        return [said(_words(looks)), *(gr.Button(**look) for look in looks)]

    form.page.model.change(follow, form.page.model, [cards.words, *cards.buttons], **QUIET)
    for number, button in enumerate(cards.buttons):
        def fill(model: str, number: int = number) -> dict:
            found = of(find_card(studio, model), form)[number:number + 1]
            return {form.fields[name]: value for name, value in (found[0] if found else {}).items()} or gr.skip()

        button.click(fill, form.page.model, list(form.fields.values()), **QUIET).then(
            None, js="() => atelier.generate()")


def of(card: ModelCard, form: Form) -> list[Example]:
    """A model's first examples, as values of the form. Those that would be refused are left out."""
    found: list[Example] = []
    for example in card.examples:
        values = {name: value for name, value in example.items() if name in form.fields}
        try:
            if values.get("prompt"):
                make(form.request, **values)
                found.append(values)
        except RequestError:
            continue
    return found[:COUNT]


def _looks(card: ModelCard, form: Form) -> list[CardLook]:
    """How each of the buttons looks."""
    shown = [CardLook(value=example["prompt"], icon=picture(card.path, example), visible=True)
             for example in of(card, form)]
    return shown + [CardLook(value="", icon=None, visible=False)] * (COUNT - len(shown))


def _words(looks: list[CardLook]) -> str:
    if not looks[0]["visible"]:
        return "Write a prompt and press **Generate**."
    return "Write a prompt and press **Generate**, or try one of these:"
