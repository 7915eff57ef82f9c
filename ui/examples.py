"""The example cards of an empty result area: a prompt that the model draws well, with the picture that it draws."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

COUNT = 4
SIDE_PX = 144  # shown at half of it: sharp on fine screens
FOLDER = "examples"  # beside the model; python -m docs.examples fills it


def name(example: dict[str, Any]) -> str:
    """File name of an example's picture. It tells prompt and seed, so the picture of another example is never shown."""
    words = re.sub(r"[^a-z0-9]+", "-", f"{example['prompt'][:60]} {example.get('seed')}".lower())
    return f"{words.strip('-')}.webp"


def picture(folder: Path | None, example: dict[str, Any]) -> str | None:
    """Path of an example's picture where the page may read it; None when the model brings none."""
    if folder is None:
        return None
    try:
        with Image.open(folder / FOLDER / name(example), formats=("WEBP",)) as image:
            image.thumbnail((SIDE_PX, SIDE_PX))
            return save_pil_to_cache(image.convert("RGB"), get_upload_folder(), format="webp")
    except (OSError, SyntaxError, ValueError):
        return None


def cards(studio: Any, task: str) -> list[tuple[gr.Button, dict[str, Any]]]:
    """Build buttons for the default model's examples; each with the form values that it stands for."""
    card = studio.default_card()
    examples = [each for each in card.examples if isinstance(each.get("prompt"), str)][:COUNT]
    gr.Markdown("Write a prompt and press **Generate**, or try one of these:" if examples
                else "Write a prompt and press **Generate**.", elem_classes="hint")
    with gr.Row(elem_classes="cards"):
        return [(gr.Button(each["prompt"], icon=picture(card.path, each), elem_classes="card", min_width=180,
                           elem_id=f"{task}-example-{index}"), each) for index, each in enumerate(examples, start=1)]
